//! The training loop, optimizer, reference cache, checkpoints, metrics and report.

mod batches;
mod checkpoint;
pub mod error;
mod evaluation;
#[cfg(test)]
mod golden_training_tests;
mod load_recipe;
pub mod optimizer;
mod packs;
mod prepare;
pub mod progress;
mod reference;
mod samples;
pub mod session;
mod stop;
mod threads;
mod trainer;

#[doc(hidden)]
pub use checkpoint::read_trainer_state;
pub use error::TrainError;
pub use load_recipe::{LoadedRecipe, backend_name, compute_dtype, load_recipe, load_recipe_from};
pub use optimizer::StepOptions;
pub use packs::in_words;
pub use prepare::{PreparedData, load_options, prepare};
pub use progress::Observer;
pub use session::{ModelSummary, Session, SessionOptions, StepOutcome, Training, open_session};
pub use stop::{RunControl, StopFlag};
pub use threads::run_passes_on_the_main_thread;
pub use trainer::{
    Plan, PlanOptions, PlannedData, PlannedDisk, PlannedMemory, PlannedModel, PlannedSteps, PlannedTime, TokenBasis,
    TrainSummary, grouped, plan, train, train_in, write_documents,
};
