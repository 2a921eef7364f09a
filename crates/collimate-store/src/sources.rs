//! Where a run's groups come from. A store is found by content, so what it keeps has marks in place of paths, which are those
//! of the run that finds it.

use std::path::PathBuf;

use collimate_data::DataFiles;

/// What stands around a file's number, or around nothing for the name of all files. Text of the data is quoted in notes with
/// such characters escaped.
const MARK: char = '\u{1}';

/// What messages call the data as a whole, and its files in the order in which they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    pub(crate) name: String,
    pub(crate) paths: Vec<PathBuf>,
}

/// Stands for the name of the data in a note.
pub(crate) fn name_mark() -> String {
    format!("{MARK}{MARK}")
}

/// Stands for the path of a file in a note.
pub(crate) fn file_mark(file: usize) -> String {
    format!("{MARK}{file}{MARK}")
}

/// `FILE:LINE` of a group, with a mark for the file.
pub(crate) fn marked_location(files: &DataFiles, index: usize, line: usize) -> String {
    let after = files.starts().partition_point(|(start, _)| *start <= index);
    format!("{}:{line}", file_mark(after.saturating_sub(1)))
}

impl Sources {
    /// For groups of these files.
    pub(crate) fn new(files: &DataFiles) -> Self {
        Self { name: String::new(), paths: files.starts().iter().map(|(_, path)| path.clone()).collect() }
    }

    /// A note with names in place of its marks.
    pub(crate) fn filled_in(&self, note: &str) -> String {
        let mut filled = String::with_capacity(note.len());
        let mut rest = note;
        while let Some((before, after)) = rest.split_once(MARK) {
            let Some((mark, behind)) = after.split_once(MARK) else { break };
            filled.push_str(before);
            match mark.parse::<usize>().ok().and_then(|file| self.paths.get(file)) {
                Some(path) => filled.push_str(&path.display().to_string()),
                None => filled.push_str(&self.name),
            }
            rest = behind;
        }
        filled + rest
    }

    /// The files with the indices of their first rows.
    pub(crate) fn files(&self, starts: &[usize]) -> DataFiles {
        let mut files = DataFiles::default();
        starts.iter().zip(&self.paths).for_each(|(start, path)| files.push(*start, path.clone()));
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_gets_the_names_of_the_run_that_reads_it() {
        let mut files = DataFiles::default();
        files.push(0, "a.jsonl");
        files.push(3, "b.jsonl");
        let (first, last) = (marked_location(&files, 2, 9), marked_location(&files, 3, 1));
        let note = format!("{}: {first} before {last}", name_mark());
        let sources = Sources { name: "all".to_owned(), paths: vec!["x/a".into(), "y/b".into()] };
        assert_eq!(sources.filled_in(&note), "all: x/a:9 before y/b:1");
        assert_eq!(sources.filled_in("no mark"), "no mark");
        assert_eq!(sources.files(&[0, 3]).location(3, 1), "y/b:1");
    }
}
