//! The error of reading and converting data.

use std::io;
use std::path::PathBuf;

use collimate_files::WriteError;
use thiserror::Error;

/// Data could not be read or converted. Names file, line and field where they are known.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be written; an existing file stays as it was.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// A file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// A line is not JSON.
    #[error("{}:{line}:{column}: not valid JSON: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// Column in the line, in bytes from 1.
        column: usize,
        /// The parser's message.
        message: String,
    },

    /// A line exceeds the limit on what is held in memory.
    #[error("{}:{line}: the line is longer than {limit_bytes} bytes; the file must be JSON Lines, one object per line", path.display())]
    LineTooLong {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// The limit, in bytes.
        limit_bytes: usize,
    },

    /// A field is missing or has the wrong type or value.
    #[error("{}:{line}: field \"{field}\": expected {expected}, found {found}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// The field, such as `responses[2].reward`.
        field: String,
        /// What was expected.
        expected: String,
        /// What was found, shortened.
        found: String,
    },

    /// A row cannot be used as it is.
    #[error("{}:{line}: {problem}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: usize,
        /// What is wrong and what to do about it.
        problem: String,
    },

    /// A file as a whole cannot be read.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do about it.
        problem: String,
    },

    /// Options contradict each other or the data's layout.
    #[error("{problem}")]
    Options {
        /// What is wrong and what to do about it.
        problem: String,
    },
}
