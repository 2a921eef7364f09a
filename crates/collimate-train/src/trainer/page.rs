//! What stands at the head of a run's page.

use collimate_objective::{holds_likelihood, registry};
use collimate_recipe::{DataSources, Recipe};
use collimate_report::RunInfo;
use collimate_report::provenance::Machine;

use super::finish::{base_name, base_packing};
use super::run::Run;
use collimate_session::Session;
use collimate_session::{backend_name, computed_in};

/// What the run is, without its times.
pub(super) fn describe(run: &Run<'_>, session: &dyn Session) -> RunInfo {
    let (recipe, summary) = (run.recipe, session.summary());
    let mut parameters = registry::find(&recipe.objective.name).map(|plugin| plugin.defaults()).unwrap_or_default();
    let mut parameters = parameters.as_object_mut().map(std::mem::take).unwrap_or_default();
    parameters.extend(recipe.objective.params.clone());
    RunInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: recipe.model_name_or_path.as_deref().map(base_name).unwrap_or_default(),
        architecture: summary.architecture,
        num_parameters: summary.num_parameters,
        num_trainable: summary.num_trainable,
        trained: if recipe.use_peft { format!("LoRA r {}", recipe.lora_r) } else { "all weights".to_owned() },
        compute_dtype: match base_packing(recipe) {
            Some(format) => format!("{}, over a base in {format}", computed_in(recipe)),
            None => computed_in(recipe),
        },
        device: device(recipe),
        objective: recipe.objective.name.clone(),
        parameters,
        holds_likelihood: holds_likelihood(run.objective),
        data: recipe.data.as_ref().map(DataSources::file_names).unwrap_or_default(),
        num_prompts: run.training.len(),
        num_responses: run.training.totals().num_responses,
        num_held_out: run.held_out.as_ref().map_or(0, |held_out| held_out.len()),
        total_steps: run.counts.total_steps,
        ..RunInfo::default()
    }
}

/// The backend with its device, and the processor's name where that computes.
fn device(recipe: &Recipe) -> String {
    let backend = backend_name(recipe);
    let found = collimate_backend::devices(backend).ok().and_then(|devices| devices.into_iter().nth(recipe.device));
    let name = found.map_or_else(|| format!("device {}", recipe.device), |device| device.name);
    let cpu = Machine::here().cpu;
    if name.starts_with("CPU") && cpu != "unknown" {
        format!("{backend}: {name}, {cpu}")
    } else {
        format!("{backend}: {name}")
    }
}
