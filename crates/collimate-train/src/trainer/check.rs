//! Validates a run before anything large is read.

use std::path::{Path, PathBuf};

use collimate_backend::{BackendError, check_dtype};
use collimate_hf::{LoraConfig, LoraTargets, ModelConfig};
use collimate_objective::{Needs, Objective, registry};
use collimate_recipe::{DataSources, Recipe};
use collimate_text::TextTokenizer;

use super::resume::find_checkpoint;
use crate::checkpoint::Checkpoint;
use crate::control::RunContext;
use crate::error::TrainError;
use crate::load_recipe::{backend_name, compute_dtype};
use crate::session::{SessionOptions, Training};
use crate::threads::set_threads;

/// A recipe whose parts exist and are compatible.
pub(super) struct Checked {
    pub(super) objective: Box<dyn Objective>,
    pub(super) needs: Needs,
    pub(super) model: PathBuf,
    pub(super) sources: DataSources,
    pub(super) tokenizer: TextTokenizer,
    pub(super) session: SessionOptions,
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
    set_threads(recipe.num_threads);
    let tokenizer = TextTokenizer::from_model_dir(&model)?;
    let session = session_options(recipe, &model)?;
    let checkpoint = find_checkpoint(recipe, resume, context)?;
    let needs = objective.needs();
    Ok((Checked { objective, needs, model, sources, tokenizer, session }, checkpoint))
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
    Ok(SessionOptions {
        model: model.to_owned(),
        adapter: recipe.adapter.clone(),
        backend: backend.to_owned(),
        device: recipe.device,
        dtype,
        training: if recipe.use_peft { Training::Lora(lora_config(recipe, model)?) } else { Training::Full },
        seed: recipe.seed,
    })
}

fn lora_config(recipe: &Recipe, model: &Path) -> Result<LoraConfig, TrainError> {
    let targets = match recipe.lora_target_modules.is_all_linear() {
        true => LoraTargets::AllLinear,
        false => LoraTargets::Names(recipe.lora_target_modules.names().to_vec()),
    };
    let mut config = LoraConfig::new(recipe.lora_r, recipe.lora_alpha, targets);
    config.dropout = recipe.lora_dropout;
    // Rejects names that the model does not have.
    config.target_modules(&ModelConfig::from_dir(model)?)?;
    Ok(config)
}

fn missing(key: &'static str) -> TrainError {
    TrainError::RecipeValue { key, message: "is needed to train".to_owned() }
}
