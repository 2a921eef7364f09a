//! Errors of a tuning.

use std::io;
use std::path::{Path, PathBuf};

use collimate_data::DataError;
use collimate_files::WriteError;
use collimate_rounds::{RewardError, RoundsError};
use collimate_train::{SessionError, TrainError};
use thiserror::Error;

/// Why nothing could be chosen; finished runs stay.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TuneError {
    /// A run could not start, or failed otherwise than by figures that are not finite.
    #[error(transparent)]
    Train(#[from] TrainError),

    /// Answers could not be drawn or scored.
    #[error(transparent)]
    Rounds(Box<RoundsError>),

    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// A file of the tuning cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// An option does not fit the recipe, the budget or what is in the folder.
    #[error("{option}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong, and what would do.
        problem: String,
    },

    /// No candidate has a score.
    #[error(
        "no candidate came to an end: the figures of all {0} were not finite; try a smaller --range learning_rate=LOW..HIGH"
    )]
    AllFailed(usize),
}

impl TuneError {
    /// For `map_err` of reading a file.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    /// An error of an option.
    pub(crate) fn option(option: &'static str, problem: impl Into<String>) -> Self {
        Self::Option { option, problem: problem.into() }
    }
}

impl From<RoundsError> for TuneError {
    fn from(error: RoundsError) -> Self {
        Self::Rounds(Box::new(error))
    }
}

impl From<RewardError> for TuneError {
    fn from(error: RewardError) -> Self {
        RoundsError::from(error).into()
    }
}

impl From<DataError> for TuneError {
    fn from(error: DataError) -> Self {
        Self::Train(error.into())
    }
}

impl From<SessionError> for TuneError {
    fn from(error: SessionError) -> Self {
        Self::Train(error.into())
    }
}
