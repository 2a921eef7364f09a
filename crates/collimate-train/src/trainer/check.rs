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

use collimate_data::{counted, either};
use std::path::{Path, PathBuf};

use collimate_backend::{BackendError, check_dtype};
use collimate_hf::{LoraConfig, LoraTargets, ModelConfig, ModulePattern, Storage, peft_default_targets};
use collimate_objective::{Needs, Objective, registry};
use collimate_recipe::{DataSources, Recipe, StepCounts, TargetModules};
use collimate_store::StoreFolder;
use collimate_text::TextTokenizer;

use super::folder::check_folder;
use super::lora::add_settings;
use super::outline::Outline;
use super::plan::PlannedDisk;
use super::resume::find_checkpoint;
use super::saving::check_saving;
use crate::control::RunContext;
use crate::error::TrainError;
use crate::load_recipe::{backend_name, compute_dtype, quantization, weight_storage};
use crate::packs::PassBudget;
use crate::prepare::{store_folder, tokenizer_changes};
use crate::session::{SessionOptions, Training, check_session};
use crate::threads::set_threads;
use collimate_checkpoint::Checkpoint;

/// A recipe whose parts exist and are compatible.
pub(super) struct Checked {
    pub(super) objective: Box<dyn Objective>,
    pub(super) needs: Needs,
    pub(super) model: PathBuf,
    pub(super) sources: DataSources,
    pub(super) tokenizer: TextTokenizer,
    pub(super) session: SessionOptions,
    pub(super) outline: Outline,
    /// Where the data's tokens are kept.
    pub(super) store_folder: StoreFolder,
}

/// Checks objective, model folder, tokenizer and output folder, and finds the checkpoint to continue from.
///
/// # Errors
/// Something is missing, unknown or incompatible.
pub(super) fn check(
    recipe: &Recipe,
    resume: bool,
    context: &mut RunContext<'_>,
) -> Result<(Checked, Option<Checkpoint>), TrainError> {
    let objective = registry::build(&recipe.objective.name, &recipe.objective.params)?;
    let model = recipe.model_name_or_path.clone().ok_or_else(|| missing("model_name_or_path"))?;
    let sources = recipe.data.clone().ok_or_else(|| missing("data"))?;
    check_folder(recipe, resume)?;
    set_threads(recipe.num_threads);
    let session = session_options(recipe, &model)?;
    let outline = check_model(recipe, &session)?;
    let checkpoint = find_checkpoint(recipe, resume, context)?;
    let tokenizer = tokenizer_changes(recipe).open(&model)?;
    let session = SessionOptions { ends: tokenizer.turn_ends().ids().to_vec(), ..session };
    let needs = objective.needs();
    let store_folder = store_folder(recipe);
    Ok((Checked { objective, needs, model, sources, tokenizer, session, outline, store_folder }, checkpoint))
}

/// Checks what a recipe asks of model, device, memory and disk, as far as that needs no data.
///
/// # Errors
/// Something is missing, unknown, incompatible or too small.
pub fn check_recipe(recipe: &Recipe) -> Result<(), TrainError> {
    registry::build(&recipe.objective.name, &recipe.objective.params)?;
    let model = recipe.model()?;
    check_model(recipe, &session_options(recipe, model)?).map(drop)
}

fn check_model(recipe: &Recipe, session: &SessionOptions) -> Result<Outline, TrainError> {
    check_session(session)?;
    check_saving(recipe, &session.model)?;
    let outline = Outline::read(session)?;
    PassBudget::new(outline.allowance(recipe), outline.costs, recipe)?;
    // The least that any run writes: one checkpoint and the model.
    let one_step = StepCounts { steps_per_epoch: 1, total_steps: 1, warmup_steps: 0 };
    PlannedDisk::new(recipe, &outline, Some(&one_step)).check(recipe)?;
    Ok(outline)
}

/// Options for opening the recipe's model for training.
///
/// # Errors
/// The device cannot compute in this dtype, or the model lacks a layer that should get an adapter.
pub(super) fn session_options(recipe: &Recipe, model: &Path) -> Result<SessionOptions, TrainError> {
    let (backend, dtype) = (backend_name(recipe), compute_dtype(recipe));
    check_dtype(backend, recipe.device, dtype).map_err(|error| match error {
        BackendError::Dtype { .. } => TrainError::RecipeValue { key: "compute_dtype", message: error.to_string() },
        other => other.into(),
    })?;
    let options = SessionOptions {
        model: model.to_owned(),
        adapter: recipe.adapter.clone(),
        backend: backend.to_owned(),
        device: recipe.device,
        dtype,
        quantization: quantization(recipe),
        weights: weight_storage(recipe),
        training: match recipe.use_peft {
            true => Training::Lora(Box::new(lora_config(recipe, model)?)),
            false => Training::Full,
        },
        seed: recipe.seed,
        ends: Vec::new(),
    };
    Ok(mapped_if_needed(recipe, options))
}

/// The same options; with `weights: auto`, weights stay in their files if they do not fit into memory otherwise.
fn mapped_if_needed(recipe: &Recipe, options: SessionOptions) -> SessionOptions {
    let fits = |options: &SessionOptions| {
        let outline = Outline::read(options).ok()?;
        Some(PassBudget::new(outline.allowance(recipe), outline.costs, recipe).is_ok())
    };
    let mapped = SessionOptions { weights: Storage::Mapped, ..options.clone() };
    match recipe.weights == "auto" && fits(&options) == Some(false) && fits(&mapped) == Some(true) {
        true => mapped,
        false => options,
    }
}

fn lora_config(recipe: &Recipe, model: &Path) -> Result<LoraConfig, TrainError> {
    let architecture = ModelConfig::from_dir(model)?;
    let targets = lora_targets(recipe, &architecture)?;
    let mut config = LoraConfig::new(recipe.lora_r, recipe.lora_alpha, targets);
    add_settings(recipe, &mut config)?;
    if recipe.adapter.is_some() {
        // The adapter has its own modules, which are checked when it is read.
        return Ok(config);
    }
    // Rejects names that the model does not have.
    config.target_modules(&architecture)?;
    Ok(config)
}

fn lora_targets(recipe: &Recipe, model: &ModelConfig) -> Result<LoraTargets, TrainError> {
    let refused = |message| TrainError::RecipeValue { key: "lora_target_modules", message };
    match &recipe.lora_target_modules {
        TargetModules::AllLinear => Ok(LoraTargets::AllLinear),
        TargetModules::Names(names) => Ok(LoraTargets::Names(names.clone())),
        TargetModules::Pattern(text) => {
            let pattern = ModulePattern::new(text);
            if !pattern.is_understood() {
                return Err(refused(format!("\"{text}\" is not a regular expression that is understood")));
            }
            Ok(LoraTargets::Pattern(pattern))
        }
        TargetModules::PeftDefault => {
            let model_type = model.family.model_type;
            let names = peft_default_targets(model_type).ok_or_else(|| {
                refused(format!("PEFT has no default for {model_type}: name the layers, or write all-linear"))
            })?;
            Ok(LoraTargets::Names(names.iter().map(|name| (*name).to_owned()).collect()))
        }
    }
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
