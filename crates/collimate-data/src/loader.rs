//! Reads groups from files, one row at a time.

mod detect;
mod files;
mod gather;
mod kind;
mod labels;
mod lines;
mod list;
mod maps;
mod options;
mod packed;
mod parquet;
mod reader;
mod row_rewards;
mod rows;
mod strict_json;
mod usable;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use crate::DataError;
use files::OpenFiles;
pub use files::{JsonRow, JsonRows, data_files, data_stem, is_pattern};
pub use labels::{LabelConflicts, LabelCounts};
pub use lines::MAX_LINE_BYTES;
pub use options::{LoadCounts, LoadOptions, MostResponses, SourceDescription};
pub use reader::GroupReader;
use rows::Rows;

/// Opens files with rewards, preferences or rankings.
///
/// ```
/// use collimate_data::{DataSource, LoadOptions};
///
/// let rows = r#"{"prompt": "Name a tree.", "answers": [{"answer": "Oak.", "rank": 1}, {"answer": "Rose.", "rank": 2}]}"#;
/// let mut groups = DataSource::from_reader(rows.as_bytes(), "trees.jsonl", &LoadOptions::default())?;
/// assert_eq!(
///     groups.describe().to_string(),
///     "layout nectar; rewards from answers[].rank (lower is better), by rank"
/// );
/// let group = groups.next().expect("a row")?;
/// assert_eq!(group.responses[0].reward, 1.0);
/// # Ok::<(), collimate_data::DataError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct DataSource;

impl DataSource {
    /// Opens a file: JSON Lines or one JSON list, both optionally compressed with gzip or Zstandard, Parquet, or token maps as
    /// safetensors. The format is recognized by the first bytes, the layout by the first row or by Parquet's columns.
    ///
    /// # Errors
    /// The file cannot be read, is in none of these formats, has no rows or no known layout, or the options contradict the
    /// layout. Errors in rows are returned by the reader.
    pub fn open(path: impl AsRef<Path>, options: &LoadOptions) -> Result<GroupReader, DataError> {
        Self::open_all(vec![path.as_ref().to_owned()], options)
    }

    /// Opens files that share a layout, to be read as one; [`data_files`] finds the files a name stands for.
    ///
    /// # Errors
    /// As [`Self::open`], for the first file; errors in later files are returned by the reader.
    pub fn open_all(files: Vec<PathBuf>, options: &LoadOptions) -> Result<GroupReader, DataError> {
        GroupReader::start(OpenFiles::open(files)?, options.clone())
    }

    /// Reads a file that is open already, as [`Self::open`] does; `path` is for messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_file(
        file: std::fs::File,
        path: impl AsRef<Path>,
        options: &LoadOptions,
    ) -> Result<GroupReader, DataError> {
        let path = path.as_ref().to_owned();
        let rows = Rows::open_file(file, &path)?;
        GroupReader::start(OpenFiles::from_rows(path, rows), options.clone())
    }

    /// Reads JSON Lines or a JSON list from any reader; `path` is for messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_reader(
        reader: impl BufRead + Send + 'static,
        path: impl AsRef<Path>,
        options: &LoadOptions,
    ) -> Result<GroupReader, DataError> {
        let path = path.as_ref().to_owned();
        let rows = Rows::read(reader).map_err(|source| DataError::Io { path: path.clone(), source })?;
        GroupReader::start(OpenFiles::from_rows(path, rows), options.clone())
    }
}
