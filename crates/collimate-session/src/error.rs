//! Errors of a session.

use std::path::PathBuf;

use collimate_backend::BackendError;
use collimate_collective::CollectiveError;
use collimate_hf::HfError;
use collimate_model::ModelError;
use thiserror::Error;

/// Why a model could not be opened, computed with, saved or restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The files of the model or adapter cannot be used.
    #[error(transparent)]
    ModelFiles(#[from] HfError),

    /// A token is not in the model's vocabulary, or inputs of blocks could not be put away.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// The backend or device is not available.
    #[error(transparent)]
    Backend(#[from] BackendError),

    /// Another rank has ended, or does not do what this one does.
    #[error(transparent)]
    Ranks(#[from] CollectiveError),

    /// An option, by the name of its recipe key, does not fit the model or device.
    #[error("{key}: {message}")]
    Option {
        /// The recipe's key.
        key: &'static str,
        /// What is wrong.
        message: String,
    },

    /// All weights are to be trained, but there is an adapter.
    #[error("an adapter is given, but use_peft is off: set use_peft, or merge the adapter first (collimate merge)")]
    AdapterWithFullTraining,

    /// A checkpoint lacks a tensor of the model.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is missing.
        message: String,
    },
}
