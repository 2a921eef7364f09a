//! Why the files of a run cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

use collimate_files::WriteError;
use thiserror::Error;

/// Why a report, a card or a row of metrics cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file could not be written; what was there before stays.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// A line is not a row of figures.
    #[error("{}:{line}: not a row of metrics: {message}", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
}

impl ReportError {
    /// An [`ReportError::Io`] about this path.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
