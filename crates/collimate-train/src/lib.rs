//! The training loop, optimizer, reference cache, checkpoints, metrics and report.

mod alarm;
mod batches;
pub mod card;
mod checkpoint;
pub mod error;
mod evaluation;
#[cfg(test)]
mod golden_training_tests;
mod lengths;
pub mod metrics;
pub mod optimizer;
mod packs;
mod plain_file;
mod prepare;
pub mod progress;
pub mod recipe;
mod reference;
pub mod report;
mod samples;
pub mod schedule;
pub mod session;
mod stop;
pub mod tensorboard;
mod threads;
mod trainer;

#[doc(hidden)]
pub use checkpoint::read_trainer_state;
pub use error::TrainError;
pub use lengths::LengthSample;
pub use metrics::{GroupOutcome, MetricsRow, MetricsWriter, StepMetrics};
pub use optimizer::StepOptions;
pub use packs::in_words;
pub use prepare::{PreparedData, load_options, prepare};
pub use progress::Observer;
pub use recipe::{Recipe, RecipeError};
pub use samples::{Sample, Samples, read_samples};
pub use schedule::{Schedule, ScheduleKind};
pub use session::{ModelSummary, Session, SessionOptions, StepOutcome, Training, open_session};
pub use stop::{RunControl, StopFlag};
pub use threads::run_passes_on_the_main_thread;
pub use trainer::{
    Plan, PlanOptions, PlannedData, PlannedDisk, PlannedMemory, PlannedModel, PlannedSteps, PlannedTime, TokenBasis,
    TrainSummary, grouped, plan, train, train_in, write_documents,
};
