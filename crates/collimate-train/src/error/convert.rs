//! Errors of other crates as those of a run.

use collimate_best::FigureError;
use collimate_checkpoint::CheckpointError;
use collimate_files::FolderError;
use collimate_gallery::GalleryError;
use collimate_model::ModelError;
use collimate_session::SessionError;

use super::TrainError;

impl From<ModelError> for TrainError {
    fn from(error: ModelError) -> Self {
        match error {
            // The stores are those of this crate.
            ModelError::InputStore(error) => match error.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::Model(ModelError::InputStore(other)),
            },
            error => Self::Model(error),
        }
    }
}

impl From<SessionError> for TrainError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::ModelFiles(error) => Self::ModelFiles(error),
            SessionError::Model(error) => error.into(),
            SessionError::Backend(error) => Self::Backend(error),
            SessionError::Ranks(error) => Self::Ranks(error),
            SessionError::Option { key, message } => Self::RecipeValue { key, message },
            SessionError::Checkpoint { path, message } => Self::Checkpoint { path, message },
            error => Self::Session(error),
        }
    }
}

impl From<FigureError> for TrainError {
    fn from(FigureError { key, message }: FigureError) -> Self {
        Self::RecipeValue { key, message }
    }
}

impl From<GalleryError> for TrainError {
    fn from(error: GalleryError) -> Self {
        match error {
            GalleryError::Session(error) => error.into(),
            GalleryError::Write(error) => Self::Write(error),
            error => Self::Foreign { message: error.to_string() },
        }
    }
}

impl From<FolderError> for TrainError {
    fn from(error: FolderError) -> Self {
        Self::Foreign { message: error.to_string() }
    }
}

impl From<CheckpointError> for TrainError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Io { path, source } => Self::Io { path, source },
            CheckpointError::Damaged { path, message } => Self::Checkpoint { path, message },
            CheckpointError::Foreign { .. } => Self::Foreign { message: error.to_string() },
            CheckpointError::Write(error) => Self::Write(error),
        }
    }
}
