//! Trains a model on scored groups: the loop, the reference cache, checkpoints, evaluation and the forecast.
//!
//! Start at [`train`], which is a whole run: `src/trainer.rs` reads top to bottom as check, read, open, reference, steps,
//! finish. A step (`src/trainer/step.rs`) is forward, ask the objective, backward, update. Both work on a [`Session`] of
//! `collimate-session`, a model on some device, which [`open_session`] opens. An [`Observer`] receives progress. [`plan`]
//! forecasts a run using the same code.
//!
//! ```no_run
//! use collimate_objectives as _; // registers the built-in objectives
//! use collimate_train::{RunControl, load_recipe, progress::Silent, train};
//!
//! let settings = [("model_name_or_path", "models/base"), ("data", "rewards.jsonl"), ("objective", "nca")];
//! let recipe = load_recipe(None, &settings.map(|(key, value)| (key.to_owned(), value.to_owned())))?;
//! let summary = train(&recipe, &mut Silent, &RunControl::default())?;
//! println!("{} steps, loss {:?}", summary.num_steps, summary.last.and_then(|row| row.get("loss")));
//! # Ok::<(), collimate_train::TrainError>(())
//! ```
//!
//! This crate must not know concrete objectives or backends: it asks `collimate_objective::registry` for the former and
//! `collimate_backend::dispatch` for the latter. No tensor leaves a session.

mod control;
mod dataset;
pub mod error;
mod load_recipe;
mod most_responses;
mod packs;
mod prepare;
mod reference;
mod scoring;
mod trainer;

#[doc(hidden)]
pub use collimate_checkpoint::read_trainer_state;
pub use collimate_collective::{Solo, StopFlag};
pub use collimate_kernels::run_passes_on_the_main_thread;
pub use collimate_progress::{
    self as progress, Observer, SavedBest, TrainSummary, format_bytes, format_count, format_seconds,
};
pub use collimate_resolve::LoadedRecipe;
#[doc(hidden)]
pub use collimate_session::OVERHEAD;
pub use collimate_session::{
    CheckedSession, ModelSummary, Session, SessionError, SessionOptions, Training, UpdateOptions, UpdateStats,
    backend_name, check_session, compute_dtype, open_session, quantization,
};
pub use control::{RunContext, RunControl};
pub use error::TrainError;
pub use load_recipe::{load_recipe, load_recipe_from, load_recipe_with};
#[doc(hidden)]
pub use packs::InputsIn;
pub use prepare::{load_options, prepare, tokenizer_changes};
pub use reference::hash_of_starts;
pub use trainer::{
    FinishedRun, Part, Plan, PlanOptions, PlannedData, PlannedInputs, PlannedMemory, PlannedModel, PlannedRanks,
    PlannedSteps, PlannedTime, TokenBasis, check_folder, check_recipe, plan, train, train_among, train_in,
    with_finished, write_documents,
};
