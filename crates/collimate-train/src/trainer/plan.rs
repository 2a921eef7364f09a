//! Forecasts a run with the run's own code: memory, tokens, steps, disk and, if measured, time.

mod figures;
mod load;
mod measure;
mod rows;

use collimate_backend::BACKENDS;
use collimate_model::MemoryCosts;
use collimate_objective::registry;
use collimate_progress::Observer;
use collimate_recipe::Recipe;

pub use self::figures::{
    Plan, PlannedData, PlannedDisk, PlannedInputs, PlannedMemory, PlannedModel, PlannedSteps, PlannedTime, TokenBasis,
};
pub(super) use self::load::expected_peak;

use self::load::PackLoad;
use super::check::{Purpose, session_draft};
use super::held::{PROGRAM, held_bytes};
use super::run::Run;
use crate::error::TrainError;
use crate::packs::PassBudget;
use collimate_kernels::set_threads;
use collimate_session::Allowance;
use collimate_session::backend_name;

/// Bytes of one float32 number.
pub(super) const FLOAT: u64 = 4;
/// What a plan needs to know besides the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// Run a few steps, in memory only, to forecast the time.
    pub measure: bool,
    /// Responses per prompt, if there is no data to count them in.
    pub num_responses: usize,
}

/// Plans a run. Writes nothing but the tokens of its data, where the run will find them, and needs only the model's `config.json`, its tokenizer to count the data's tokens, and its
/// weights to measure the time.
///
/// # Errors
/// A recipe, configuration, adapter or data that a run would reject; when measuring, any error of a run. A run that
/// does not fit into memory is no error: the plan says so.
pub fn plan(recipe: &Recipe, options: &PlanOptions, observer: &mut dyn Observer) -> Result<Plan, TrainError> {
    let objective = registry::build(&recipe.objective.name, &recipe.objective.params)?;
    set_threads(recipe.num_threads);
    let dir = recipe.model()?;
    let draft = session_draft(recipe, dir, if options.measure { Purpose::Run } else { Purpose::Forecast })?;
    let backend = backend_name(recipe);
    if BACKENDS.iter().any(|known| known.name == backend && !known.compiled) {
        observer.note(&format!("{backend} is not in this build: what its devices have and can do is not known"));
    }
    let outline = draft.outline.clone();
    let session = options.measure.then(|| draft.check()).transpose()?;
    let (costs, counts) = (&outline.costs, &outline.counts);
    let rows = rows::read(recipe, dir, objective.needs().min_responses, options.num_responses, observer)?;

    let allowance = outline.allowance(recipe);
    let (bytes, budget_origin) = (allowance.bytes, allowance.origin.clone());
    let (needs, widest) = (objective.needs(), rows.widest());
    // Without a limit, for what the objective takes.
    let smallest = PassBudget::new(None, *costs, recipe)?.with_objective(&needs, widest, recipe)?;
    let smallest_budget = smallest.least(rows.longest());
    let fits = bytes.is_none_or(|bytes| bytes >= smallest_budget);
    let allowance =
        if fits { allowance } else { Allowance { bytes: Some(smallest_budget), origin: None, ..allowance } };
    let budget = PassBudget::new(allowance, *costs, recipe)?
        .with_objective(&needs, widest, recipe)?
        .for_operations(outline.config.operations_per_token());

    let is_known = rows.basis != TokenBasis::Longest || recipe.max_steps > 0;
    let data = rows.describe();
    let run = Run::new(recipe, objective.as_ref(), budget, rows.data, None);
    let total_steps = is_known.then_some(run.counts.total_steps);
    let load = PackLoad::new(&run, total_steps.unwrap_or(1))?;
    let mut plan = Plan {
        model: PlannedModel {
            architecture: outline.config.family.model_type,
            num_parameters: counts.base + counts.adapter,
            num_trained: counts.trained,
            operations_per_token: outline.config.operations_per_token(),
        },
        memory: PlannedMemory {
            budget: bytes,
            budget_origin,
            fits,
            smallest_budget,
            ..memory(&run, &load, costs, counts.trained)
        },
        data,
        steps: load.steps(recipe.groups_per_step(), total_steps),
        disk: PlannedDisk::new(recipe, &outline, is_known.then_some(&run.counts)),
        time: None,
    };
    if let Some(session) = session {
        check_fits(&plan.memory)?;
        plan.time = Some(measure::time(run, session, &plan.steps, observer)?);
    }
    Ok(plan)
}

fn check_fits(memory: &PlannedMemory) -> Result<(), TrainError> {
    if memory.fits {
        return Ok(());
    }
    let message = "is too little to run with, so there is nothing to measure".to_owned();
    Err(TrainError::RecipeValue { key: "memory_budget", message })
}

/// Memory held at the peak, regardless of the budget.
fn memory(run: &Run<'_>, load: &PackLoad, costs: &MemoryCosts, num_trained: u64) -> PlannedMemory {
    let gradients = FLOAT * num_trained;
    let overhead = PROGRAM + held_bytes(&run.training.store, None, &run.objective.needs());
    PlannedMemory {
        weights: costs.weights,
        in_files: costs.in_files,
        unpacking: costs.unpacking,
        gradients,
        moments: 2 * FLOAT * num_trained,
        activations: load.activations,
        objective: run.budget.objective(),
        overhead,
        peak: costs.resident - gradients + overhead + load.step_bytes(gradients, run.budget.objective()),
        budget: None,
        budget_origin: None,
        fits: true,
        smallest_budget: 0,
    }
}
