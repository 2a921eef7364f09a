//! Why data could not be read.

use std::io;
use std::path::PathBuf;

use collimate_files::WriteError;
use thiserror::Error;

/// Why data could not be read or converted. Each names the file, the line and the field where it knows them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be written; what was there before stays.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// The file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A line is not JSON.
    #[error("{}:{line}:{column}: not valid JSON: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line of the file, counted from 1.
        line: usize,
        /// Column of the line, counted from 1 in bytes.
        column: usize,
        /// What the parser said.
        message: String,
    },

    /// A line is longer than a reader is ready to hold in memory.
    #[error("{}:{line}: the line is longer than {limit_bytes} bytes; the file must be JSON Lines, one object a line", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// Line of the file, counted from 1.
        line: usize,
        /// The largest line that is read, in bytes.
        limit_bytes: usize,
    },

    /// A field is missing or holds something else than it should.
    #[error("{}:{line}: field \"{field}\": expected {expected}, found {found}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Line of the file, counted from 1.
        line: usize,
        /// The field, as `responses[2].reward`.
        field: String,
        /// What should be there.
        expected: String,
        /// What is there, shortened.
        found: String,
    },

    /// A row is well formed but cannot be used as it stands.
    #[error("{}:{line}: {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Line of the file, counted from 1.
        line: usize,
        /// What is wrong and what to do about it.
        problem: String,
    },

    /// The file as a whole is not what a loader reads.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do about it.
        problem: String,
    },

    /// Options that contradict each other or the data's layout.
    #[error("{problem}")]
    Options {
        /// What is wrong and what to do about it.
        problem: String,
    },
}
