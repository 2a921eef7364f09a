//! Which files a name stands for, and reading several as one.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, glob_with};
use serde_json::Value;

use super::rows::Rows;
use crate::layout::prompt_of;
use crate::{ChatInputs, DataError, Prompt};

/// Extensions of data files.
const ENDINGS: [&str; 7] = [".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst", ".parquet"];
/// Extensions that metadata files share: such files are read if named explicitly, or if a folder has no others.
const OTHER_ENDINGS: [&str; 3] = [".json", ".json.gz", ".json.zst"];

/// The name of a data file without its extension; `None` if the extension is not one of a data file.
pub fn data_stem(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    ENDINGS.iter().chain(&OTHER_ENDINGS).find_map(|ending| name.strip_suffix(ending))
}

/// Whether a path is a glob pattern: it contains `*`, `?` or `[`, and no file has that name.
pub fn is_pattern(path: &Path) -> bool {
    path.to_str().is_some_and(|text| text.contains(['*', '?', '['])) && !path.exists()
}

/// The files a name stands for, sorted: the file itself, the data files in a folder (or in its subfolder `data`), or the
/// files that match a pattern, in which `**` stands for any folders.
///
/// # Errors
/// A folder cannot be read or has no data files, or a pattern is invalid or matches nothing.
pub fn data_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let problem = |problem: String| DataError::File { path: path.to_owned(), problem };
    if is_pattern(path) {
        let files = matches(path).map_err(problem)?;
        return if files.is_empty() { Err(problem("no file matches".to_owned())) } else { Ok(files) };
    }
    if !path.is_dir() {
        return match nearest(path).filter(|_| !path.exists()) {
            Some(name) => {
                Err(problem(format!("there is no such file; perhaps {}", path.with_file_name(name).display())))
            }
            None => Ok(vec![path.to_owned()]),
        };
    }
    let mut files = files_in(path)?;
    if files.is_empty() && path.join("data").is_dir() {
        files = files_in(&path.join("data"))?;
    }
    let is_json = |file: &PathBuf| OTHER_ENDINGS.iter().any(|ending| file.to_string_lossy().ends_with(ending));
    if files.iter().all(is_json) && is_saved_to_disk(path) {
        return Err(problem(format!(
            "a data set that `save_to_disk` wrote, as Arrow files, which are not read; in Python, \
             `datasets.load_from_disk({:?}).to_parquet(\"train.parquet\")` writes what is (of a split, \
             `load_from_disk(…)[\"train\"]`)",
            path.display().to_string()
        )));
    }
    let none = || problem(format!("the folder has no data files ({})", ENDINGS.join(", ")));
    if files.is_empty() { Err(none()) } else { Ok(files) }
}

/// Whether the library `datasets` has saved a data set, or several splits, in a folder.
fn is_saved_to_disk(folder: &Path) -> bool {
    ["dataset_dict.json", "state.json"].iter().any(|name| folder.join(name).is_file())
        || folder.join("data-00000-of-00001.arrow").is_file()
}

/// The name in a path's folder that is most like the path's own, if one is like it at all.
fn nearest(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let scored = names.map(|other| (strsim::jaro_winkler(&name, &other), other));
    let (score, nearest) = scored.max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)))?;
    (score >= 0.85).then_some(nearest)
}

fn matches(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let options =
        MatchOptions { require_literal_leading_dot: true, require_literal_separator: true, ..MatchOptions::new() };
    let found =
        glob_with(&pattern.to_string_lossy(), options).map_err(|error| format!("not a valid pattern: {error}"))?;
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

/// The rows of several files, read one file after the other.
pub(crate) struct OpenFiles {
    path: PathBuf,
    rows: Rows,
    unopened: VecDeque<PathBuf>,
    is_at_first_row: bool,
}

impl OpenFiles {
    /// Opens the first file; each later one is opened when the one before is exhausted.
    ///
    /// # Errors
    /// The list is empty, or the first file cannot be read.
    pub(crate) fn open(files: Vec<PathBuf>) -> Result<Self, DataError> {
        let mut unopened = VecDeque::from(files);
        let nothing = || DataError::Options { problem: "no data file is given".to_owned() };
        let path = unopened.pop_front().ok_or_else(nothing)?;
        Ok(Self { rows: Rows::open(&path)?, path, unopened, is_at_first_row: false })
    }

    /// Wraps rows that are already open.
    pub(crate) fn from_rows(path: PathBuf, rows: Rows) -> Self {
        Self { path, rows, unopened: VecDeque::new(), is_at_first_row: false }
    }

    /// The file of the last row.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Number of the last row in its file, from 1: its line, or its position in formats without lines.
    pub(crate) fn number(&self) -> usize {
        self.rows.number()
    }

    /// The file's columns, if its format has any.
    pub(crate) fn columns(&self) -> Option<Vec<String>> {
        self.rows.columns()
    }

    /// Whether the last row is the first of its file.
    pub(crate) fn is_at_first_row(&self) -> bool {
        self.is_at_first_row
    }

    /// The next row; `None` after the last row of the last file.
    pub(crate) fn next(&mut self) -> Option<Result<Value, DataError>> {
        self.is_at_first_row = self.rows.number() == 0;
        loop {
            if let Some(row) = self.rows.next(&self.path) {
                return Some(row);
            }
            self.path = self.unopened.pop_front()?;
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

/// A row as JSON, with its location.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonRow {
    /// The file.
    pub path: PathBuf,
    /// Line in the file, or position in formats without lines, from 1.
    pub line: usize,
    /// The row.
    pub value: Value,
}

impl JsonRow {
    /// The row's prompt, and what its chat template is given besides: tools, further variables, a system prompt.
    ///
    /// # Errors
    /// There is no prompt, or the row has a column that would change its meaning and cannot be used; the error names file,
    /// line and field.
    pub fn prompt(&self) -> Result<(Prompt, ChatInputs), DataError> {
        let (mut prompt, chat) = prompt_of(&self.value).map_err(|error| error.at(&self.path, self.line))?;
        prompt.place_images(&self.path);
        Ok((prompt, chat))
    }
}

/// Iterates over the rows of files as JSON, whatever their layout.
pub struct JsonRows(OpenFiles);

impl JsonRows {
    /// Opens the files a name stands for; see [`data_files`].
    ///
    /// # Errors
    /// There are none, or the first cannot be read.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Self::open_all(data_files(path)?)
    }

    /// Opens files, to be read one after the other.
    ///
    /// # Errors
    /// The list is empty, or the first file cannot be read.
    pub fn open_all(files: Vec<PathBuf>) -> Result<Self, DataError> {
        OpenFiles::open(files).map(Self)
    }

    /// Reads JSON Lines or a JSON list from any reader; `path` is for messages.
    ///
    /// # Errors
    /// The first bytes cannot be read.
    pub fn from_reader(reader: impl std::io::BufRead + Send + 'static, path: &Path) -> Result<Self, DataError> {
        let rows = Rows::read(reader).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        Ok(Self(OpenFiles::from_rows(path.to_owned(), rows)))
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
