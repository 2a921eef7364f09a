//! Everything that can go wrong in a run.

use std::io;
use std::path::{Path, PathBuf};

use collimate_backend::BackendError;
use collimate_data::DataError;
use collimate_files::{LockError, WriteError};
use collimate_hf::HfError;
use collimate_hub::HubError;
use collimate_model::ModelError;
use collimate_objective::ObjectiveError;
use collimate_recipe::{Origin, RecipeError};
use collimate_report::ReportError;
use collimate_text::TextError;
use thiserror::Error;

/// Why a run could not begin, go on or be read back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),

    /// A model or data set that the recipe names on the hub cannot be had.
    #[error("{origin}: key \"{key}\": {problem}")]
    Hub {
        /// Where the key was set.
        origin: Origin,
        /// The key.
        key: String,
        /// What the hub or its cache lacks, and what to do.
        problem: Box<HubError>,
    },

    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),

    /// The tokenizer or the chat template cannot be used, or not on these texts.
    #[error(transparent)]
    Text(#[from] TextError),

    /// A file of the run could not be written; what was there before stays.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// Another process writes to the output folder.
    #[error(transparent)]
    Locked(#[from] LockError),

    /// A file of the run could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Metrics, the report or the model card cannot be read or written.
    #[error(transparent)]
    Report(#[from] ReportError),

    /// The files of the model or adapter cannot be used.
    #[error(transparent)]
    ModelFiles(#[from] HfError),

    /// The model refuses tokens.
    #[error(transparent)]
    Model(#[from] ModelError),

    /// The objective is not there, or refuses its parameters or numbers.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),

    /// The objective refuses one group of the data.
    #[error("{place}: {source}")]
    ObjectiveOnGroup {
        /// The data file and the line in it, counted from 1.
        place: String,
        /// What it refuses.
        source: Box<ObjectiveError>,
    },

    /// The backend or device is not there.
    #[error(transparent)]
    Backend(#[from] BackendError),

    /// A value of the recipe that another part reads makes no sense.
    #[error("recipe key \"{key}\": {message}")]
    RecipeValue {
        /// The recipe's key.
        key: &'static str,
        /// What is wrong.
        message: String,
    },

    /// A response is too long for the memory that the run may use.
    #[error("{place}, response {response}: {tokens} tokens with its prompt need {needed}, memory_budget is {budget}")]
    MemoryBudget {
        /// The data file and the line in it, counted from 1.
        place: String,
        /// The response, counted from 0.
        response: usize,
        /// Tokens of prompt and response.
        tokens: usize,
        /// Memory that the run would need.
        needed: String,
        /// Memory that it may use.
        budget: String,
    },

    /// A file has no group that can be trained on.
    #[error("{}: no usable group: every row is empty or was left out", path.display())]
    NoGroups {
        /// The file.
        path: PathBuf,
    },

    /// A group cannot be trained on once it is tokenized.
    #[error("{}:{line}: {reason}; set skip_unusable to leave such groups out", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Why not.
        reason: String,
    },

    /// A group has more responses than the objective takes.
    #[error("{}:{line}: {found} responses, but the objective \"{objective}\" takes at most {limit}", path.display())]
    TooManyResponses {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// How many the group has.
        found: usize,
        /// How many the objective takes.
        limit: usize,
        /// The objective.
        objective: String,
    },

    /// All weights are to be trained, but the run starts from an adapter.
    #[error("an adapter is given, but use_peft is off: set use_peft, or merge the adapter first (collimate merge)")]
    AdapterWithFullTraining,

    /// At the first step the policy does not agree with its reference.
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
        /// What is not finite, with the group and the line of the data file.
        culprit: String,
        /// What is left of the run.
        kept: String,
    },

    /// A trained weight is not a finite number.
    #[error(
        "after step {step}: the weight {parameter} is not finite: the learning rate is too high; go on from the last \
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
        /// Where the run stands, and how it goes on.
        saved: String,
    },

    /// All checkpoints are damaged, or the newest is of another run.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The checkpoint or a file in it.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },

    /// The output folder holds a run, and it is not to be resumed.
    #[error("{}: holds a run already; use --resume to continue it, or another --output", path.display())]
    OutputTaken {
        /// The folder.
        path: PathBuf,
    },
}

/// A signal as people know it.
fn signal_name(signal: usize) -> String {
    match signal {
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

impl TrainError {
    /// An [`TrainError::Io`] of this path.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}
