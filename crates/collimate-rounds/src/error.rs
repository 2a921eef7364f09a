//! Errors of a loop.

use std::io;
use std::path::{Path, PathBuf};

use collimate_data::DataError;
use collimate_files::WriteError;
use collimate_recipe::RecipeError;
use collimate_text::TextError;
use collimate_train::{SessionError, TrainError};
use thiserror::Error;

use crate::rewarder::RewardError;

/// Why a loop could not start or continue; finished rounds are kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RoundsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// A file cannot be written; what was there before stays.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// The recipe cannot be recorded beside the rounds.
    #[error("the recipe cannot be written as JSON: {0}")]
    Settings(serde_yaml_ng::Error),

    /// The recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),

    /// The prompts or samples cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),

    /// The tokenizer or the chat template cannot be used, or not on these prompts.
    #[error(transparent)]
    Text(#[from] TextError),

    /// The reward program failed.
    #[error(transparent)]
    Reward(#[from] RewardError),

    /// A round's sampling or training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl From<SessionError> for RoundsError {
    fn from(error: SessionError) -> Self {
        Self::Train(error.into())
    }
}

impl RoundsError {
    /// For `map_err` of reading a file.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}
