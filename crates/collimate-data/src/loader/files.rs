//! Several files one after the other, and which files a name stands for.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, glob_with};
use serde_json::Value;

use super::rows::Rows;
use crate::DataError;

/// Endings of files of rows.
const ENDINGS: [&str; 7] = [".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst", ".parquet"];
/// Endings of files that may also be descriptions of others: read where they are named, or alone in a folder.
const OTHER_ENDINGS: [&str; 3] = [".json", ".json.gz", ".json.zst"];

/// The name of a file of rows without its ending; `None` where it ends as no such file does.
pub fn data_stem(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    ENDINGS.iter().chain(&OTHER_ENDINGS).find_map(|ending| name.strip_suffix(ending))
}

/// Whether a name is a pattern and not that of a file: it has `*`, `?` or `[`, and there is no file of that name.
pub fn is_pattern(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains(['*', '?', '['])) && !path.exists()
}

/// The files that a name stands for, in the order of their names: the file itself, the files of rows of a folder (of its
/// folder `data` where it has none), or those that a pattern matches, `**` any folders.
///
/// # Errors
/// A folder that cannot be read or has no such files, a pattern that is none or matches no file.
pub fn data_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let problem = |problem: String| DataError::File { path: path.to_owned(), problem };
    if is_pattern(path) {
        let files = matches(path).map_err(problem)?;
        return if files.is_empty() { Err(problem("no file matches".to_owned())) } else { Ok(files) };
    }
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = files_in(path)?;
    if files.is_empty() && path.join("data").is_dir() {
        files = files_in(&path.join("data"))?;
    }
    let none = || problem(format!("a folder without files of rows ({})", ENDINGS.join(", ")));
    if files.is_empty() { Err(none()) } else { Ok(files) }
}

fn matches(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let options =
        MatchOptions { require_literal_leading_dot: true, require_literal_separator: true, ..MatchOptions::new() };
    let found = glob_with(&pattern.to_string_lossy(), options).map_err(|error| format!("no pattern: {error}"))?;
    let mut files = Vec::new();
    for path in found {
        let path = path.map_err(|error| error.to_string())?;
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |source| DataError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if data_stem(&path).is_some() && !is_hidden && path.is_file() {
            files.push(path);
        }
    }
    let ends = |path: &PathBuf| ENDINGS.iter().any(|ending| path.to_string_lossy().ends_with(ending));
    if files.iter().any(ends) {
        files.retain(ends);
    }
    files.sort();
    Ok(files)
}

/// The rows of files, one file after the other.
pub(crate) struct OpenFiles {
    path: PathBuf,
    rows: Rows,
    later: VecDeque<PathBuf>,
    is_at_first_row: bool,
}

impl OpenFiles {
    /// Opens the first; the others are opened when it is their turn.
    ///
    /// # Errors
    /// There is none, or the first cannot be read.
    pub(crate) fn open(files: Vec<PathBuf>) -> Result<Self, DataError> {
        let mut later = VecDeque::from(files);
        let nothing = || DataError::Options { problem: "no file of data is named".to_owned() };
        let path = later.pop_front().ok_or_else(nothing)?;
        Ok(Self { rows: Rows::open(&path)?, path, later, is_at_first_row: false })
    }

    /// Rows that are open already.
    pub(crate) fn of(path: PathBuf, rows: Rows) -> Self {
        Self { path, rows, later: VecDeque::new(), is_at_first_row: false }
    }

    /// The file of the last row.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last row's place in its file, counted from 1: a line, or a row where there are no lines.
    pub(crate) fn number(&self) -> usize {
        self.rows.number()
    }

    /// The columns of the file, where it has such.
    pub(crate) fn columns(&self) -> Option<Vec<String>> {
        self.rows.columns()
    }

    /// Whether the last row is the first of its file.
    pub(crate) fn is_at_first_row(&self) -> bool {
        self.is_at_first_row
    }

    /// The next row; `None` after the last of the last file.
    pub(crate) fn next(&mut self) -> Option<Result<Value, DataError>> {
        self.is_at_first_row = self.rows.number() == 0;
        loop {
            if let Some(row) = self.rows.next(&self.path) {
                return Some(row);
            }
            self.path = self.later.pop_front()?;
            self.is_at_first_row = true;
            match Rows::open(&self.path) {
                Ok(rows) => self.rows = rows,
                Err(error) => {
                    self.rows = Rows::Ended(0);
                    return Some(Err(error));
                }
            }
        }
    }
}

/// A row as JSON, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonRow {
    /// The file.
    pub path: PathBuf,
    /// Line of the file, or where it has no lines its row, counted from 1.
    pub line: usize,
    /// What stands there.
    pub value: Value,
}

/// The rows of files as they are, for what reads no layout.
pub struct JsonRows(OpenFiles);

impl JsonRows {
    /// Opens the files that a name stands for; see [`data_files`].
    ///
    /// # Errors
    /// There is none, or the first cannot be read.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Self::open_all(data_files(path)?)
    }

    /// Opens files, read one after the other.
    ///
    /// # Errors
    /// There is none, or the first cannot be read.
    pub fn open_all(files: Vec<PathBuf>) -> Result<Self, DataError> {
        OpenFiles::open(files).map(Self)
    }

    /// Rows of text from anything; `path` is for messages.
    ///
    /// # Errors
    /// The beginning cannot be read.
    pub fn from_reader(reader: impl std::io::BufRead + Send + 'static, path: &Path) -> Result<Self, DataError> {
        let rows = Rows::read(reader).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        Ok(Self(OpenFiles::of(path.to_owned(), rows)))
    }
}

impl Iterator for JsonRows {
    type Item = Result<JsonRow, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.0.next()?;
        Some(row.map(|value| JsonRow { path: self.0.path.clone(), line: self.0.number(), value }))
    }
}

impl std::fmt::Debug for JsonRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonRows").field("path", &self.0.path).finish_non_exhaustive()
    }
}
