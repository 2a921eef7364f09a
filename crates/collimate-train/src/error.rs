//! Everything that can go wrong in a run.

use std::io;
use std::path::{Path, PathBuf};

use collimate_data::DataError;
use thiserror::Error;

use crate::recipe::RecipeError;

/// Why a run could not begin, go on or be read back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),

    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),

    /// A file of the run could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A line of a metrics file is no row of figures.
    #[error("{}:{line}: not a row of metrics: {message}", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
}

impl TrainError {
    /// An [`TrainError::Io`] of this path.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
