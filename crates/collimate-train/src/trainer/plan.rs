//! What a run would take, by the code of the run itself: memory, tokens, steps, disk and, where it is measured, time.

mod figures;
mod measure;
mod rows;

use collimate_hf::{LoraConfig, ModelConfig};
use collimate_model::{MemoryCosts, ParameterCounts, Trainable};
use collimate_objective::{Needs, registry};
use collimate_text::TokenizedGroup;

pub use self::figures::{
    Plan, PlannedData, PlannedDisk, PlannedMemory, PlannedModel, PlannedSteps, PlannedTime, TokenBasis,
};
use self::rows::PaperRows;
use super::{session_options, storage_dtype};
use crate::error::TrainError;
use crate::packs::{MemoryPlan, OVERHEAD};
use crate::prepare::epoch_order;
use crate::progress::Observer;
use crate::session::{SessionOptions, Training};
use crate::threads::set_threads;
use collimate_recipe::{Recipe, StepCounts};

/// Bytes of one float32 number.
const FLOAT: u64 = 4;
/// What the program, its tokenizer and its threads hold: less than the budget sets aside for what nobody knows before.
const PROGRAM: u64 = 40 << 20;

/// What a plan is made from beside the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// Compute a few steps, in memory alone, to tell the time.
    pub measure: bool,
    /// Responses of a prompt where there is no data to count them in.
    pub num_responses: usize,
}

/// Plans a run. Needs the model's `config.json` only, its tokenizer where data is to be counted in tokens, and its weights
/// where time is to be measured. Writes nothing.
///
/// # Errors
/// A recipe, configuration, adapter or data that a run would refuse; in measuring, whatever ends a run. That a run does not
/// fit into its memory is no error: the plan says so.
pub fn plan(recipe: &Recipe, options: &PlanOptions, observer: &mut dyn Observer) -> Result<Plan, TrainError> {
    let needs = registry::build(&recipe.objective.name, &recipe.objective.params)?.needs();
    set_threads(recipe.num_threads);
    let dir = recipe.model()?;
    let config = ModelConfig::from_dir(dir)?;
    let session = session_options(recipe, dir.to_owned())?;
    let (lora, trainable) = trained(&session)?;
    let costs = MemoryCosts::of(&config, lora.as_ref(), trainable, session.dtype);
    let counts = ParameterCounts::of(&config, lora.as_ref(), trainable);
    let rows = rows::read(recipe, dir, needs.min_responses, options.num_responses, observer)?;

    let device = collimate_backend::device_memory(&session.backend, session.device)?;
    let budget = recipe.memory_budget.bytes(device);
    let smallest_budget = OVERHEAD + costs.resident + rows.longest() as u64 * costs.per_token;
    let fits = budget.is_none_or(|budget| budget >= smallest_budget);
    let memory = MemoryPlan::new(if fits { budget } else { Some(smallest_budget) }, costs, recipe.share_prompt)?;

    let known = rows.basis != TokenBasis::Longest || recipe.max_steps > 0;
    let step_plan = recipe.step_counts(rows.groups.len());
    let load = Load::new(recipe, &rows.groups, if known { step_plan.total_steps } else { 1 }, &memory)?;
    let overhead = PROGRAM + rows::bytes(&rows.groups);
    let gradients = FLOAT * counts.trained;
    let planned = PlannedMemory {
        weights: costs.weights,
        gradients,
        moments: 2 * FLOAT * counts.trained,
        activations: load.activations,
        overhead,
        peak: costs.resident - gradients + overhead + load.passing(gradients),
        budget,
        fits,
        smallest_budget,
    };
    let mut plan = Plan {
        model: PlannedModel {
            architecture: config.family.model_type,
            num_parameters: counts.base + counts.adapter,
            num_trained: counts.trained,
        },
        memory: planned,
        data: rows.describe(),
        steps: load.steps(recipe, known.then_some(step_plan.total_steps)),
        disk: disk(recipe, (&config, &counts), known.then_some(&step_plan)),
        time: None,
    };
    if options.measure {
        plan.time = Some(measured(recipe, &session, rows, memory, (&plan, &needs), observer)?);
    }
    Ok(plan)
}

fn measured(
    recipe: &Recipe,
    session: &SessionOptions,
    rows: PaperRows,
    memory: MemoryPlan,
    (plan, needs): (&Plan, &Needs),
    observer: &mut dyn Observer,
) -> Result<PlannedTime, TrainError> {
    if !plan.memory.fits {
        let message = "is too little to run with, so there is nothing to measure".to_owned();
        return Err(TrainError::RecipeValue { key: "memory_budget", message });
    }
    measure::time(recipe, session, rows, memory, (&plan.steps, needs), observer)
}

/// Bytes that a run with its model open will hold at the peak, the program and its data included.
///
/// # Errors
/// A response that does not fit.
pub(super) fn expected_peak(
    recipe: &Recipe,
    groups: &[TokenizedGroup],
    num_steps: usize,
    memory: &MemoryPlan,
    num_trained: u64,
) -> Result<u64, TrainError> {
    let load = Load::new(recipe, groups, num_steps, memory)?;
    let (gradients, overhead) = (FLOAT * num_trained, PROGRAM + rows::bytes(groups));
    Ok(memory.resident() - gradients + overhead + load.passing(gradients))
}

/// The adapter that is trained, if one is, and what training changes.
fn trained(session: &SessionOptions) -> Result<(Option<LoraConfig>, Trainable), TrainError> {
    Ok(match (&session.training, &session.adapter) {
        (Training::Lora(_), Some(adapter)) => (Some(LoraConfig::from_dir(adapter)?), Trainable::Adapter),
        (Training::Lora(config), None) => (Some(config.clone()), Trainable::Adapter),
        (_, Some(_)) => return Err(TrainError::AdapterWithFullTraining),
        _ => (None, Trainable::Base),
    })
}

fn disk(
    recipe: &Recipe,
    (config, counts): (&ModelConfig, &ParameterCounts),
    steps: Option<&StepCounts>,
) -> PlannedDisk {
    let checkpoint = 3 * FLOAT * counts.trained;
    // An adapter is written in float32, as it was trained.
    let model = match recipe.use_peft {
        true => FLOAT * counts.adapter,
        false => storage_dtype(recipe, config).num_bytes() as u64 * counts.base,
    };
    let kept = steps.map(|plan| {
        let at_the_end = usize::from(!recipe.saves_after(plan.total_steps, plan));
        let regular = (1..=plan.total_steps).filter(|&step| recipe.saves_after(step, plan)).count();
        let all = regular + at_the_end;
        (all, all.min(recipe.save_total_limit.unwrap_or(all)))
    });
    let peak = kept.map(|(all, kept)| model + checkpoint * (kept + usize::from(all > kept)) as u64);
    PlannedDisk { checkpoint, num_checkpoints: kept.map(|(_, kept)| kept), model, peak }
}

/// The packs of all steps.
struct Load {
    num_steps: usize,
    num_packs: usize,
    most_packs: usize,
    tokens: u64,
    /// Of the pack that needs most: bytes, tokens, kept blocks.
    activations: u64,
    pack_tokens: usize,
    kept_blocks: usize,
}

impl Load {
    fn new(
        recipe: &Recipe,
        groups: &[TokenizedGroup],
        num_steps: usize,
        memory: &MemoryPlan,
    ) -> Result<Self, TrainError> {
        let mut load =
            Self { num_steps, num_packs: 0, most_packs: 0, tokens: 0, activations: 0, pack_tokens: 0, kept_blocks: 0 };
        let mut step = 0;
        for epoch in 0.. {
            let order = epoch_order(groups.len(), recipe.shuffle, recipe.seed, epoch);
            for visits in order.chunks(recipe.groups_per_step().max(1)) {
                if step == num_steps {
                    return Ok(load);
                }
                load.add_step(recipe, groups, visits, memory)?;
                step += 1;
            }
        }
        Ok(load)
    }

    fn add_step(
        &mut self,
        recipe: &Recipe,
        groups: &[TokenizedGroup],
        visits: &[usize],
        memory: &MemoryPlan,
    ) -> Result<(), TrainError> {
        let mut num_packs = 0;
        for indices in visits.chunks(recipe.per_device_train_batch_size.max(1)) {
            let batch: Vec<&TokenizedGroup> = indices.iter().map(|&index| &groups[index]).collect();
            for pack in memory.packs(&batch)? {
                num_packs += 1;
                let tokens = memory.pack_tokens(&batch, &pack);
                self.tokens += tokens as u64;
                let kept = if recipe.gradient_checkpointing { 0 } else { memory.kept_blocks(tokens) };
                let bytes = memory.pack_bytes(tokens, kept);
                if bytes > self.activations {
                    (self.activations, self.pack_tokens, self.kept_blocks) = (bytes, tokens, kept);
                }
            }
        }
        self.num_packs += num_packs;
        self.most_packs = self.most_packs.max(num_packs);
        Ok(())
    }

    /// Bytes of a step beside what is always held. On the way back gradients come as activations go; only a pack after
    /// the first finds gradients before it begins.
    fn passing(&self, gradients: u64) -> u64 {
        match self.most_packs {
            0 | 1 => gradients.max(self.activations),
            _ => gradients + self.activations,
        }
    }

    fn steps(&self, recipe: &Recipe, total: Option<usize>) -> PlannedSteps {
        PlannedSteps {
            total,
            groups_per_step: recipe.groups_per_step(),
            packs_per_step: self.num_packs as f64 / self.num_steps.max(1) as f64,
            most_packs: self.most_packs,
            pack_tokens: self.pack_tokens,
            kept_blocks: self.kept_blocks,
            tokens: self.tokens,
        }
    }
}
