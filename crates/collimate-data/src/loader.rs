//! Groups from a file or several, one row at a time.

mod files;
mod lines;
mod list;
mod make;
mod options;
mod packed;
mod parquet;
mod reader;
mod rows;
mod strict_json;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use crate::DataError;
use files::OpenFiles;
pub use files::{JsonRow, JsonRows, data_files, data_stem, is_pattern};
pub use lines::MAX_LINE_BYTES;
pub use options::{LoadCounts, LoadOptions, SkipReason, SourceDescription};
pub use reader::GroupReader;
use rows::Rows;

/// Opens files of rewards, preferences and rankings.
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
    /// Opens a file and recognises its layout from the first row, or from the columns of Parquet. JSON Lines, one JSON
    /// list, both also compressed with gzip or Zstandard, and Parquet are known by their first bytes.
    ///
    /// # Errors
    /// Where the file cannot be read, is in no such format, has no rows, has no layout that is known, or where the options
    /// contradict the layout. Errors of rows come from the reader.
    pub fn open(path: impl AsRef<Path>, options: &LoadOptions) -> Result<GroupReader, DataError> {
        Self::open_all(vec![path.as_ref().to_owned()], options)
    }

    /// Opens files of one layout, read one after the other as if they were one; [`data_files`] finds those of a name.
    ///
    /// # Errors
    /// As [`Self::open`], of the first; errors of later files come from the reader.
    pub fn open_all(files: Vec<PathBuf>, options: &LoadOptions) -> Result<GroupReader, DataError> {
        GroupReader::start(OpenFiles::open(files)?, options.clone())
    }

    /// Reads rows of text from anything: lines, or one list; `path` is for messages.
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
        GroupReader::start(OpenFiles::of(path, rows), options.clone())
    }
}
