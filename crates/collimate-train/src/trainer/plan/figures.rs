//! The figures of a plan.

use collimate_disk::PlannedDisk;
use serde::Serialize;

use crate::packs::InputsIn;

/// The forecast of a run. Sizes are in bytes, times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The model.
    pub model: PlannedModel,
    /// Memory held at once.
    pub memory: PlannedMemory,
    /// The data.
    pub data: PlannedData,
    /// Optimizer steps.
    pub steps: PlannedSteps,
    /// What is written to disk.
    pub disk: PlannedDisk,
    /// Time, if it was measured.
    pub time: Option<PlannedTime>,
    /// What processes exchange, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks: Option<PlannedRanks>,
}

/// What several processes exchange.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedRanks {
    /// Processes.
    pub ranks: usize,
    /// Bytes that each of them sends in a step, and receives: gradients, then updated parameters.
    pub traffic: u64,
    /// Bytes a second at which that takes a tenth of the time in which a step is computed, if that was measured.
    pub bandwidth: Option<f64>,
}

impl PlannedRanks {
    /// The exchange of so many trained numbers; `None` for one process.
    pub(super) fn new(ranks: usize, num_trained: u64) -> Option<Self> {
        let others = u128::from(num_trained) * (ranks as u128).saturating_sub(1);
        let traffic = u64::try_from(2 * 4 * others / ranks.max(1) as u128).unwrap_or(u64::MAX);
        (ranks > 1).then_some(Self { ranks, traffic, bandwidth: None })
    }
}

/// The model of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedModel {
    /// `llama`, `mistral`, …
    pub architecture: &'static str,
    /// All parameters, an adapter's included.
    pub num_parameters: u64,
    /// Parameters that are trained.
    pub num_trained: u64,
    /// Multiplications and additions of one token's forward pass, without attention between tokens; the backward pass
    /// takes twice as many, less where parameters are frozen.
    pub operations_per_token: u64,
}

/// Memory of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedMemory {
    /// Parameters, in the types and formats that passes read.
    pub weights: u64,
    /// Parameters that stay in their files, of which one at a time is in memory.
    pub in_files: u64,
    /// What a product takes to unpack a weight.
    pub unpacking: u64,
    /// Gradients of the trained parameters.
    pub gradients: u64,
    /// AdamW's two moments.
    pub moments: u64,
    /// Activations of the largest pack.
    pub activations: u64,
    /// What the objective holds for a micro-batch.
    pub objective: u64,
    /// The program, and the data's tokens.
    pub overhead: u64,
    /// The largest sum of these that is held at one time.
    pub peak: u64,
    /// What the run may use (`memory_budget`); `None` if the device does not report its memory.
    pub budget: Option<u64>,
    /// What an automatic budget is derived from: three quarters of which limit.
    pub budget_origin: Option<String>,
    /// Whether the run fits into the budget.
    pub fits: bool,
    /// The smallest budget that the run fits into.
    pub smallest_budget: u64,
}

/// Where a plan's tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenBasis {
    /// The data, with the model's tokenizer.
    Tokenizer,
    /// The data, at four characters per token: the model's folder has no tokenizer.
    Characters,
    /// No data: every prompt and response is as long as the recipe allows.
    Longest,
}

/// Data of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedData {
    /// Where the tokens come from.
    pub basis: TokenBasis,
    /// Prompts.
    pub num_groups: usize,
    /// Responses.
    pub num_responses: usize,
    /// Tokens of prompts, each counted once.
    pub prompt_tokens: u64,
    /// Tokens of responses.
    pub response_tokens: u64,
    /// Prompts that are truncated.
    pub cut_prompts: usize,
    /// Responses that are truncated.
    pub cut_responses: usize,
    /// Tokens of the longest response with its prompt.
    pub longest: usize,
}

/// Steps of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedSteps {
    /// Optimizer steps of the run; `None` without data to count or a number in the recipe.
    pub total: Option<usize>,
    /// Prompts of a step.
    pub groups_per_step: usize,
    /// Packs per step on average.
    pub packs_per_step: f64,
    /// Most packs in a step.
    pub most_packs: usize,
    /// Micro-batches of several packs that go through the model together, block by block. The packs of others have a
    /// forward and a backward pass of their own.
    pub num_blockwise: u64,
    /// Where the inputs of blocks of those micro-batches wait for the backward pass.
    pub inputs: Vec<PlannedInputs>,
    /// Tokens of the pack that needs the most memory.
    pub pack_tokens: usize,
    /// Blocks of that pack that keep their activations; the others are recomputed.
    pub kept_blocks: usize,
    /// Tokens computed in all steps, or in one step if their number is unknown.
    pub tokens: u64,
}

/// Inputs of blocks that wait for the backward pass in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedInputs {
    /// The place.
    pub place: InputsIn,
    /// Bytes of the micro-batch with the most.
    pub bytes: u64,
    /// Micro-batches whose inputs wait there.
    pub num_micro_batches: u64,
}

/// Time of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedTime {
    /// Steps that were measured.
    pub measured_steps: usize,
    /// Training tokens per second.
    pub tokens_per_second: f64,
    /// Average step of the run.
    pub step_seconds: f64,
    /// Scoring the reference, with nothing in the cache.
    pub reference_seconds: f64,
    /// The whole run except reading, evaluation and writing; `None` if the number of steps is unknown.
    pub total_seconds: Option<f64>,
}
