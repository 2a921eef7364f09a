//! Groups from a file, one line at a time.

mod lines;
mod make;
mod options;
mod reader;
mod strict_json;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::DataError;
use lines::Lines;
pub use lines::MAX_LINE_BYTES;
pub use options::{LoadCounts, LoadOptions, SkipReason, SourceDescription};
pub use reader::GroupReader;

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
    /// Opens a JSON Lines file and recognises its layout from the first row.
    ///
    /// # Errors
    /// Where the file cannot be read, is no JSON Lines, has no rows, has no layout that is known, or where the options
    /// contradict the layout. Errors of rows come from the reader.
    pub fn open(path: impl AsRef<Path>, options: &LoadOptions) -> Result<GroupReader, DataError> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| DataError::Io { path: path.to_owned(), source })?;
        Self::from_reader(BufReader::with_capacity(1 << 18, file), path, options)
    }

    /// Reads rows from anything; `path` is for messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_reader(
        reader: impl BufRead + Send + 'static,
        path: impl AsRef<Path>,
        options: &LoadOptions,
    ) -> Result<GroupReader, DataError> {
        GroupReader::start(Lines::new(Box::new(reader), MAX_LINE_BYTES), path.as_ref().to_owned(), options.clone())
    }
}
