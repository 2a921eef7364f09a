//! Rows that were read once and are kept on disk, so that memory does not grow with them.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use collimate_data::{DataError, JsonRow, JsonRows};
use collimate_files::{ScratchFolder, WriteError};

/// Rows in an unnamed file, in any order. Memory holds two numbers a row.
#[derive(Debug)]
pub(crate) struct StoredRows {
    file: Mutex<File>,
    /// Where each row begins, and where the last one ends.
    starts: Vec<u64>,
    /// Each row's line in its file, counted from 1.
    lines: Vec<usize>,
    /// Index of each file's first row, and the file.
    files: Vec<(usize, PathBuf)>,
    /// What the rows are kept for, for messages.
    name: PathBuf,
}

impl StoredRows {
    /// Reads and checks all rows, and keeps them in a file of `scratch`.
    ///
    /// # Errors
    /// A row cannot be read, `check` refuses it, or the disk is full.
    pub(crate) fn read<E: From<DataError> + From<WriteError>>(
        rows: JsonRows,
        scratch: &ScratchFolder,
        mut check: impl FnMut(JsonRow) -> Result<(), E>,
    ) -> Result<Self, E> {
        let failed = || WriteError::at(scratch.name());
        let mut file = BufWriter::new(scratch.file()?);
        let (mut starts, mut lines, mut files) = (vec![0], Vec::new(), Vec::<(usize, PathBuf)>::new());
        let mut end = 0;
        for row in rows {
            let row = row?;
            let text = row.value.to_string();
            file.write_all(text.as_bytes()).map_err(failed())?;
            end += text.len() as u64;
            if files.last().is_none_or(|(_, path)| *path != row.path) {
                files.push((lines.len(), row.path.clone()));
            }
            starts.push(end);
            lines.push(row.line);
            check(row)?;
        }
        let file = file.into_inner().map_err(|error| failed()(error.into_error()))?;
        Ok(Self { file: Mutex::new(file), starts, lines, files, name: scratch.name().to_owned() })
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Bytes of a row's text.
    pub(crate) fn bytes(&self, index: usize) -> u64 {
        self.starts[index + 1] - self.starts[index]
    }

    /// The file of a row and its line, counted from 1.
    pub(crate) fn location(&self, index: usize) -> (&Path, usize) {
        let file = self.files.partition_point(|(first, _)| *first <= index).saturating_sub(1);
        (&self.files[file].1, self.lines[index])
    }

    /// A row.
    ///
    /// # Errors
    /// It cannot be read back.
    pub(crate) fn get(&self, index: usize) -> Result<JsonRow, DataError> {
        let failed = |source| DataError::Io { path: self.name.clone(), source };
        let mut text = vec![0; self.bytes(index) as usize];
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(self.starts[index])).map_err(failed)?;
            file.read_exact(&mut text).map_err(failed)?;
        }
        let (path, line) = self.location(index);
        let value = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
        Ok(JsonRow { path: path.to_owned(), line, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back_in_any_order_with_their_places() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
            folder.path().join(name)
        };
        let first = write("a.jsonl", "\n{\"x\": 0.1}\n{\"x\": 1e300, \"y\": [-0.0, null]}\n");
        let second = write("b.jsonl", "{\"x\": \"\\u00e4\"}\n");
        let rows = || JsonRows::open_all(vec![first.clone(), second.clone()]).expect("rows");
        let expected: Vec<JsonRow> = rows().collect::<Result<_, _>>().expect("rows");
        let scratch = ScratchFolder::beside(&folder.path().join("out.jsonl"));
        let stored = StoredRows::read(rows(), &scratch, |_| Ok::<_, crate::RoundsError>(())).expect("rows");
        assert_eq!(stored.len(), 3);
        for index in [2, 0, 1, 2] {
            let row = stored.get(index).expect("a row");
            assert_eq!(row.value.to_string(), expected[index].value.to_string());
            assert_eq!(row, expected[index]);
            assert_eq!(stored.location(index), (expected[index].path.as_path(), expected[index].line));
        }
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2);
    }
}
