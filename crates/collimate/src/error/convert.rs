//! Errors of other crates as those of a command.

use collimate_explain::ExplainError;
use collimate_gguf::GgufError;
use collimate_resolve::ResolveError;
use collimate_rounds::RoundsError;
use collimate_train::{SessionError, TrainError};
use collimate_tune::TuneError;

use super::CliError;

impl From<GgufError> for CliError {
    fn from(error: GgufError) -> Self {
        match error {
            GgufError::Tokenizer(error) => Self::Text(error),
            GgufError::Folder(error) => Self::ModelFiles(error),
        }
    }
}

impl From<ResolveError> for CliError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Recipe(error) => Self::Recipe(error),
            ResolveError::Adapter(error) => Self::ModelFiles(error),
            error => Self::Resolve(error),
        }
    }
}

impl From<TrainError> for CliError {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Recipe(error) => Self::Recipe(error),
            TrainError::Resolve(error) => error.into(),
            TrainError::Data(error) => Self::Data(error),
            TrainError::Text(error) => Self::Text(error),
            TrainError::ModelFiles(error) => Self::ModelFiles(error),
            TrainError::Model(error) => Self::Model(error),
            TrainError::Objective(error) => Self::Objective(error),
            TrainError::Backend(error) => Self::Backend(error),
            error => Self::Train(error),
        }
    }
}

impl From<ExplainError> for CliError {
    fn from(error: ExplainError) -> Self {
        match error {
            ExplainError::Train(error) => error.into(),
            error => Self::usage(error.to_string()),
        }
    }
}

impl From<TuneError> for CliError {
    fn from(error: TuneError) -> Self {
        match error {
            TuneError::Train(error) => error.into(),
            TuneError::Rounds(error) => (*error).into(),
            TuneError::Write(error) => Self::Write(error),
            TuneError::Read { path, source } => Self::Read { path, source },
            error => Self::usage(error.to_string()),
        }
    }
}

impl From<SessionError> for CliError {
    fn from(error: SessionError) -> Self {
        TrainError::from(error).into()
    }
}

impl From<RoundsError> for CliError {
    fn from(error: RoundsError) -> Self {
        match error {
            RoundsError::Read { path, source } => Self::Read { path, source },
            RoundsError::Write(error) => Self::Write(error),
            RoundsError::Recipe(error) => Self::Recipe(error),
            RoundsError::Data(error) => Self::Data(error),
            RoundsError::Text(error) => Self::Text(error),
            RoundsError::Reward(error) => Self::Reward(error),
            RoundsError::Train(error) => error.into(),
            error => Self::usage(error.to_string()),
        }
    }
}
