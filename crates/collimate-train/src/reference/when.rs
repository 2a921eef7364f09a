//! Decides whether the reference is scored before the first step or while the policy trains.

use collimate_hf::ModelConfig;
use collimate_peft::LoraConfig;
use collimate_recipe::Recipe;
use collimate_weights::read_config;

use super::Source;
use crate::error::TrainError;
use collimate_session::{Training, backend_name};

/// The backend on which the bits of a log-prob depend neither on the pack nor on whether a layer adds an adapter's zeros.
const EXACT_BACKEND: &str = "flex";

/// Whether the session that trains still gives the reference's log-probs, bit for bit, once the policy has changed: those of
/// its model without the adapter. A run then scores each prompt just before the first step that visits it.
///
/// So it is with an adapter whose base is the reference: by `reference: base`, or because the adapter is fresh and its output
/// is zero. Another model beside the policy would stay in memory, and where all weights are trained, or an adapter is trained
/// further, the start is gone after the first step. `precompute_ref_log_probs` asks for everything first.
///
/// # Errors
/// The model's configuration cannot be read, or the adapter does not fit it.
pub(super) fn can_wait(recipe: &Recipe, source: &Source, training: &Training) -> Result<bool, TrainError> {
    let is_exact = backend_name(recipe) == EXACT_BACKEND;
    let Training::Lora(config) = training else { return Ok(false) };
    if recipe.precompute_ref_log_probs || !is_exact {
        return Ok(false);
    }
    match source {
        Source::Other(_) => Ok(false),
        Source::Base => Ok(true),
        Source::Start => Ok(recipe.adapter.is_none() && starts_at_zero(config, &read_config(recipe.model()?)?)?),
    }
}

/// Whether a fresh adapter adds exact zeros to what the model computes without it. DoRA divides by lengths, copies of whole
/// tensors are rounded on their own, and on the output layer the adapter's part lengthens the sums.
fn starts_at_zero(config: &LoraConfig, model: &ModelConfig) -> Result<bool, TrainError> {
    let head = model.head().name;
    let on_head = config.target_modules(model)?.iter().any(|linear| head.starts_with(&linear.module));
    Ok(!config.use_dora && config.modules_to_save.is_empty() && !on_head)
}
