//! Errors of checkpoints.

use std::io;
use std::path::PathBuf;

use collimate_files::WriteError;
use thiserror::Error;

/// Why a checkpoint cannot be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// A state is no state of a run, or every checkpoint is damaged.
    #[error("{}: {message}", path.display())]
    Damaged {
        /// The run's folder, or the file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },

    /// Something that is not this program's has the name of a checkpoint.
    #[error("{}: {message}; a run needs this name for a checkpoint: move it away, or choose another --output", path.display())]
    Foreign {
        /// What has the name.
        path: PathBuf,
        /// What it is.
        message: String,
    },

    /// A checkpoint cannot be written, or an old one removed.
    #[error(transparent)]
    Write(#[from] WriteError),
}
