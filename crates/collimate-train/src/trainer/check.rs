//! Validates a run before anything large is read.
//!
//! What is cheap comes first. The order of `train`, with the same functions in the same order for `plan` (without weights
//! unless it measures) and for each round of `loop`:
//!
//! 1. objective and its parameters; whether the output folder may be written to
//! 2. backend, device and dtype; `config.json`; layers that get an adapter
//! 3. headers of the weights, adapter
//! 4. memory budget and disk, as far as the configuration tells
//! 5. checkpoints in the output folder
//! 6. tokenizer
//! 7. rows of the data (`read_rows`), then their tokens, while the weights are read (`open`)
//! 8. memory and disk again, now with the data's lengths and steps

use std::path::{Path, PathBuf};

use collimate_backend::BackendError;
use collimate_best::check_figures;
use collimate_checkpoint::Checkpoint;
use collimate_data::{counted, either};
use collimate_disk::PlannedDisk;
use collimate_kernels::set_threads;
use collimate_objective::{Needs, Objective, registry};
use collimate_recipe::{DataSources, Recipe, StepCounts};
use collimate_session::{CheckedSession, Outline, SessionDraft, SessionOptions, Training, lora_config};
use collimate_store::StoreFolder;
use collimate_text::TextTokenizer;
use collimate_weights::ModelFolder;

use super::folder::check_folder;
use super::resume::find_checkpoint;
use super::saving::check_saving;
use crate::control::RunContext;
use crate::error::TrainError;
use crate::packs::PassBudget;
use crate::prepare::{store_folder, tokenizer_changes};

/// A recipe whose parts exist and are compatible.
pub(super) struct Checked {
    pub(super) objective: Box<dyn Objective>,
    pub(super) needs: Needs,
    pub(super) model: PathBuf,
    pub(super) sources: DataSources,
    pub(super) tokenizer: TextTokenizer,
    pub(super) outline: Outline,
    /// How to open a reference that is another model.
    pub(super) beside: SessionOptions,
    /// Where the data's tokens are kept.
    pub(super) store_folder: StoreFolder,
}

/// Checks objective, model folder, tokenizer and output folder, and finds the checkpoint to continue from, with the recipe as it
/// was given. The session is ready to be opened.
///
/// # Errors
/// Something is missing, unknown or incompatible.
pub(super) fn check(
    recipe: &Recipe,
    given: &Recipe,
    resume: bool,
    context: &mut RunContext<'_>,
) -> Result<(Checked, CheckedSession, Option<Checkpoint>), TrainError> {
    let objective = registry::build(&recipe.objective.name, &recipe.objective.params)?;
    check_figures(recipe, objective.needs().reference)?;
    let model = recipe.model_name_or_path.clone().ok_or_else(|| missing("model_name_or_path"))?;
    let sources = recipe.data.clone().ok_or_else(|| missing("data"))?;
    let is_first = context.ranks.is_first();
    if is_first {
        check_folder(recipe, resume)?;
    }
    set_threads(recipe.num_threads);
    let mut session = check_model(recipe, &model)?;
    let checkpoint = if is_first { find_checkpoint(given, resume, context)? } else { None };
    let tokenizer = tokenizer_changes(recipe).open(&model)?;
    session.options.ends = tokenizer.turn_ends().ids().to_vec();
    let (outline, beside) = (session.outline.clone(), session.options_beside());
    let (needs, store_folder) = (objective.needs(), store_folder(recipe));
    let checked = Checked { objective, needs, model, sources, tokenizer, outline, beside, store_folder };
    Ok((checked, session, checkpoint))
}

/// Checks what a recipe asks of model, device, memory and disk, as far as that needs no data.
///
/// # Errors
/// Something is missing, unknown, incompatible or too small.
pub fn check_recipe(recipe: &Recipe) -> Result<(), TrainError> {
    let objective = registry::build(&recipe.objective.name, &recipe.objective.params)?;
    check_figures(recipe, objective.needs().reference)?;
    check_model(recipe, recipe.model()?).map(drop)
}

fn check_model(recipe: &Recipe, model: &Path) -> Result<CheckedSession, TrainError> {
    let session = session_draft(recipe, model, Purpose::Run)?.check()?;
    check_saving(recipe, model)?;
    let outline = &session.outline;
    PassBudget::new(outline.allowance(recipe), outline.costs, recipe)?;
    // The least that any run writes: one checkpoint and the model.
    let one_step = StepCounts { steps_per_epoch: 1, total_steps: 1, warmup_steps: 0 };
    PlannedDisk::new(recipe, outline, Some(&one_step)).check(recipe)?;
    Ok(session)
}

/// Where a session is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// On a device of this machine.
    Run,
    /// Nowhere: a backend that is not in this build will do, about whose devices nothing is known.
    Forecast,
}

/// The session that trains the recipe's model.
///
/// # Errors
/// The device cannot compute in this dtype, a configuration cannot be used, or the model lacks a layer that should get an
/// adapter.
pub(super) fn session_draft(recipe: &Recipe, model: &Path, purpose: Purpose) -> Result<SessionDraft, TrainError> {
    let options = SessionOptions::of_recipe(recipe, model, recipe.adapter.clone());
    let memory = options.device_memory().or_else(|error| match error {
        BackendError::NotCompiled { .. } if purpose == Purpose::Forecast => Ok(None),
        BackendError::Dtype { .. } => Err(TrainError::RecipeValue { key: "compute_dtype", message: error.to_string() }),
        other => Err(other.into()),
    })?;
    let folder = ModelFolder::open(model)?;
    let training = match recipe.use_peft {
        true => Training::Lora(Box::new(lora_config(recipe, folder.config())?)),
        false => Training::Full,
    };
    Ok(SessionDraft::new(folder, SessionOptions { training, seed: recipe.seed, ..options }, memory)?)
}

/// Rejects a run none of whose prompts fill a micro-batch, if only full ones count.
pub(super) fn check_drop_last(recipe: &Recipe, num_groups: usize) -> Result<(), TrainError> {
    if num_groups == 0 || recipe.groups_per_epoch(num_groups) > 0 {
        return Ok(());
    }
    let size = recipe.per_device_train_batch_size;
    let message = format!(
        "leaves nothing to train on: {} {} not fill a micro-batch of {size}",
        counted(num_groups, "prompt"),
        either(num_groups, "does", "do")
    );
    Err(TrainError::RecipeValue { key: "dataloader_drop_last", message })
}

fn missing(key: &'static str) -> TrainError {
    TrainError::RecipeValue { key, message: "is needed to train".to_owned() }
}
