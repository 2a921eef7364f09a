//! Errors of a run.

mod convert;

use std::io;
use std::path::{Path, PathBuf};

use collimate_backend::BackendError;
use collimate_collective::CollectiveError;
use collimate_data::DataError;
use collimate_disk::DiskError;
use collimate_files::{LockError, WriteError};
use collimate_hf::HfError;
use collimate_model::ModelError;
use collimate_objective::ObjectiveError;
use collimate_recipe::RecipeError;
use collimate_report::ReportError;
use collimate_resolve::ResolveError;
use collimate_session::SessionError;
use collimate_store::StoreError;
use collimate_text::TextError;
use thiserror::Error;

/// Why a run could not start, continue or be read back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe is invalid.
    #[error(transparent)]
    Recipe(#[from] RecipeError),

    /// Something that the recipe names was not found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),

    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),

    /// The tokenizer or chat template is invalid, or fails on these texts.
    #[error(transparent)]
    Text(#[from] TextError),

    /// The tokens of the run's data could not be read back.
    #[error(transparent)]
    Tokens(StoreError),

    /// A file of the run could not be written; an older version of it is intact.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// Another process is using the output folder.
    #[error(transparent)]
    Locked(#[from] LockError),

    /// A file of the run could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// Metrics, the report or the model card cannot be read or written.
    #[error(transparent)]
    Report(#[from] ReportError),

    /// The files of the model or adapter cannot be used.
    #[error(transparent)]
    ModelFiles(#[from] HfError),

    /// A token is not in the model's vocabulary.
    #[error(transparent)]
    Model(ModelError),

    /// The objective does not exist, or rejects its parameters or inputs.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),

    /// The objective rejects one group of the data.
    #[error("{location}: {source}")]
    ObjectiveOnGroup {
        /// The data file and the line in it, counted from 1.
        location: String,
        /// Why.
        source: Box<ObjectiveError>,
    },

    /// The backend or device is not available.
    #[error(transparent)]
    Backend(#[from] BackendError),

    /// A recipe's value does not fit the model, data or device.
    #[error("recipe key \"{key}\": {message}")]
    RecipeValue {
        /// The recipe's key.
        key: &'static str,
        /// What is wrong.
        message: String,
    },

    /// A response does not fit into the memory budget.
    #[error(
        "{location}, response {response}: {tokens} tokens with its prompt need {needed}, memory_budget is {budget}; {remedy}"
    )]
    MemoryBudget {
        /// The data file and the line in it, counted from 1.
        location: String,
        /// The response, counted from 0.
        response: usize,
        /// Tokens of prompt and response.
        tokens: usize,
        /// Memory that the run would need.
        needed: String,
        /// Its budget.
        budget: String,
        /// What needs less.
        remedy: String,
    },

    /// The disk has no room for what the run will write.
    #[error(transparent)]
    DiskSpace(#[from] DiskError),

    /// A file has no usable group.
    #[error("{}: no usable group: every row is empty or was left out", path.display())]
    NoGroups {
        /// The file.
        path: PathBuf,
    },

    /// A group is unusable once it is tokenized.
    #[error("{}:{line}: {reason}; set skip_unusable to leave such groups out", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Why.
        reason: String,
    },

    /// The model cannot be opened, for a reason that is none of the others.
    #[error(transparent)]
    Session(SessionError),

    /// Another rank of the run has failed or ended.
    #[error(transparent)]
    Ranks(#[from] CollectiveError),

    /// Policy and reference disagree at the first step.
    #[error("step-0 self-check failed: {message}")]
    SelfCheck {
        /// What differs, with the numbers.
        message: String,
    },

    /// A log-prob, loss or gradient is not a finite number.
    #[error("step {step}: {culprit}; {kept} (on_nonfinite: skip leaves such steps out)")]
    NotFinite {
        /// The step, from 1.
        step: usize,
        /// What is not finite, with its group, file and line.
        culprit: String,
        /// What was saved of the run.
        kept: String,
    },

    /// A log-prob or logit of one row is not a finite number, outside a step.
    #[error("{location}: {problem}")]
    RowNotFinite {
        /// The data file and the line in it, counted from 1; or which prompt.
        location: String,
        /// The response, and what is not finite.
        problem: String,
    },

    /// A trained weight is not a finite number.
    #[error(
        "after step {step}: the weight {parameter} is not finite: the learning rate is too high; continue from the last \
         checkpoint with a lower one"
    )]
    WeightsNotFinite {
        /// Finished steps.
        step: usize,
        /// The parameter.
        parameter: String,
    },

    /// A signal asked the run to stop.
    #[error("stopped by {} {saved}", signal_name(*.signal))]
    Interrupted {
        /// The signal's number.
        signal: usize,
        /// The step, what was saved, and how to continue.
        saved: String,
    },

    /// All checkpoints are damaged, or the newest belongs to another run.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint or a file in it.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },

    /// A resumed run has already done more steps than the recipe gives it.
    #[error("{}: {message}", path.display())]
    TooFewSteps {
        /// The newest checkpoint.
        path: PathBuf,
        /// The numbers, and what to do.
        message: String,
    },

    /// Something in the output folder is not this program's, and is in the way of its files.
    #[error("{message}")]
    Foreign {
        /// Where it is, and what to do.
        message: String,
    },

    /// The output folder already holds a run, and resuming was not asked for.
    #[error("{}: holds a run already; use --resume to continue it, or another --output", path.display())]
    OutputTaken {
        /// The folder.
        path: PathBuf,
    },
}

/// A signal's name.
fn signal_name(signal: usize) -> String {
    match signal {
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

impl TrainError {
    /// Names the row of a response that cannot be drawn; `location` gives that of a prompt's index.
    #[must_use]
    pub fn at_prompt(self, location: impl FnOnce(usize) -> String) -> Self {
        match self {
            Self::Model(ModelError::LogitsNotFinite { prompt, response, token }) => Self::RowNotFinite {
                location: location(prompt),
                problem: format!("response {response} cannot be drawn: the logits of its token {token} are not finite"),
            },
            error => error,
        }
    }

    /// A [`TrainError::Io`] for this path.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
