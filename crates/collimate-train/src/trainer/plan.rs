//! Forecasts a run with the run's own code: memory, tokens, steps, disk and, if measured, time.

mod figures;
mod load;
mod measure;
mod rows;

use collimate_backend::BACKENDS;
use collimate_disk::PlannedDisk;
use collimate_model::MemoryCosts;
use collimate_objective::registry;
use collimate_progress::Observer;
use collimate_recipe::Recipe;

pub use self::figures::{
    Plan, PlannedData, PlannedInputs, PlannedMemory, PlannedModel, PlannedRanks, PlannedSteps, PlannedTime, TokenBasis,
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
    /// Processes of the run.
    pub ranks: usize,
}

/// Plans a run. Writes nothing but the tokens of its data, where the run will find them, and needs only the model's `config.json`, its tokenizer to count the data's tokens, and its
/// weights to measure the time.
///
/// # Errors
/// A recipe, configuration, adapter or data that a run would reject; when measuring, any error of a run. A run that
/// does not fit into memory is no error: the plan says so.
pub fn plan(recipe: &Recipe, options: &PlanOptions, observer: &mut dyn Observer) -> Result<Plan, TrainError> {
    let ranks = options.ranks.max(1);
    let accumulation = recipe.gradient_accumulation_steps.saturating_mul(ranks);
    let (own, recipe) = (recipe, &Recipe { gradient_accumulation_steps: accumulation, ..recipe.clone() });
    let objective = registry::build(&recipe.objective.name, &recipe.objective.params)?;
    set_threads(recipe.num_threads);
    let dir = recipe.model()?;
    let draft = session_draft(recipe, dir, if options.measure { Purpose::Run } else { Purpose::Forecast })?;
    note_backend(recipe, observer);
    let outline = draft.outline.clone();
    let session = options.measure.then(|| draft.check()).transpose()?;
    let (costs, counts) = (&outline.costs, &outline.counts);
    let rows = rows::read(recipe, dir, objective.needs().min_in_data(), options.num_responses, observer)?;

    let allowance = outline.allowance(recipe);
    let (bytes, budget_origin) = (allowance.bytes, allowance.origin.clone());
    let (needs, widest) = (objective.needs(), objective.needs().num_columns(rows.widest()));
    // Without a limit, for what the objective takes.
    let smallest = PassBudget::new(None, *costs, recipe)?.with_objective(&needs, widest, recipe)?;
    let smallest_budget = smallest.least(smallest.longest_charge(&rows.data)?);
    let fits = bytes.is_none_or(|bytes| bytes >= smallest_budget);
    let allowance =
        if fits { allowance } else { Allowance { bytes: Some(smallest_budget), origin: None, ..allowance } };
    let budget = PassBudget::new(allowance, *costs, recipe)?
        .with_objective(&needs, widest, recipe)?
        .for_operations(outline.config.operations_per_token());

    let is_known = rows.basis != TokenBasis::Longest || recipe.max_steps > 0;
    let data = rows.describe();
    let steps_of = |run: &Run<'_>| is_known.then_some(run.counts.total_steps);
    // A process holds what its own micro-batches of a step need.
    let mut run = Run::new(own, objective.as_ref(), budget, rows.data, None)?;
    let mut load = PackLoad::new(&run, steps_of(&run).unwrap_or(1))?;
    let held = memory(&run, &load, costs, counts.trained).divided(ranks);
    if ranks > 1 {
        run = Run::new(recipe, objective.as_ref(), budget, run.training, None)?;
        load = PackLoad::new(&run, steps_of(&run).unwrap_or(1))?;
    }
    let total_steps = steps_of(&run);
    let mut plan = Plan {
        model: PlannedModel {
            architecture: outline.config.model_type(),
            num_parameters: counts.base + counts.adapter,
            num_trained: counts.trained,
            operations_per_token: outline.config.operations_per_token(),
        },
        memory: PlannedMemory { budget: bytes, budget_origin, fits, smallest_budget, ..held },
        data,
        steps: load.steps(recipe.groups_per_step(), total_steps),
        disk: PlannedDisk::new(recipe, &outline, is_known.then_some(&run.counts)),
        time: None,
        ranks: PlannedRanks::new(ranks, counts.trained),
    };
    if let Some(session) = session {
        check_fits(&plan.memory)?;
        plan.add_time(measure::time(run, session, &plan.steps, observer)?.divided(ranks));
    }
    Ok(plan)
}

/// Says so if nothing is known of the recipe's backend.
fn note_backend(recipe: &Recipe, observer: &mut dyn Observer) {
    let backend = backend_name(recipe);
    if BACKENDS.iter().any(|known| known.name == backend && !known.compiled) {
        observer.note(&format!("{backend} is not in this build: what its devices have and can do is not known"));
    }
}

impl Plan {
    /// Adds a time that was measured, and how fast an exchange must be beside it.
    fn add_time(&mut self, time: PlannedTime) {
        if let Some(ranks) = &mut self.ranks {
            ranks.bandwidth = Some(10.0 * ranks.traffic as f64 / time.step_seconds);
        }
        self.time = Some(time);
    }
}

fn check_fits(memory: &PlannedMemory) -> Result<(), TrainError> {
    if memory.fits {
        return Ok(());
    }
    let message = "is too little to run with, so there is nothing to measure".to_owned();
    Err(TrainError::RecipeValue { key: "memory_budget", message })
}

impl PlannedMemory {
    /// The memory of each of so many processes, which divide the moments.
    fn divided(self, ranks: usize) -> Self {
        let moments = self.moments / ranks as u64;
        Self { peak: self.peak - (self.moments - moments), moments, ..self }
    }
}

impl PlannedTime {
    /// The time of so many processes as fast as the one that was measured, without their exchanges.
    fn divided(self, ranks: usize) -> Self {
        let ranks = ranks as f64;
        Self {
            tokens_per_second: self.tokens_per_second * ranks,
            step_seconds: self.step_seconds / ranks,
            reference_seconds: self.reference_seconds / ranks,
            total_seconds: self.total_seconds.map(|seconds| seconds / ranks),
            ..self
        }
    }
}

/// Memory held at the peak, regardless of the budget.
fn memory(run: &Run<'_>, load: &PackLoad, costs: &MemoryCosts, num_trained: u64) -> PlannedMemory {
    let gradients = FLOAT * num_trained;
    let overhead = PROGRAM + held_bytes(&run.training.store, None, &run.objective.needs(), run.num_orders());
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
