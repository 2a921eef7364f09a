//! The figures of a plan.

use serde::Serialize;

/// What a run would take. Sizes are in bytes, times in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The model.
    pub model: PlannedModel,
    /// What is held at once.
    pub memory: PlannedMemory,
    /// What the data is.
    pub data: PlannedData,
    /// Optimizer steps.
    pub steps: PlannedSteps,
    /// What is written.
    pub disk: PlannedDisk,
    /// How long it takes, where it was measured.
    pub time: Option<PlannedTime>,
}

/// The model of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedModel {
    /// `llama`, `mistral`, …
    pub architecture: &'static str,
    /// All parameters, an adapter's included.
    pub num_parameters: u64,
    /// Those that training changes.
    pub num_trained: u64,
}

/// Memory of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedMemory {
    /// Parameters, in float32.
    pub weights: u64,
    /// Gradients of those that are trained.
    pub gradients: u64,
    /// AdamW's two moments.
    pub moments: u64,
    /// Activations of the pack that needs most.
    pub activations: u64,
    /// The program, and the data's tokens.
    pub overhead: u64,
    /// All of these.
    pub peak: u64,
    /// What the run may use (`memory_budget`); none where the device does not say what it has.
    pub budget: Option<u64>,
    /// Whether it can run within the budget.
    pub fits: bool,
    /// The smallest budget that it can run with.
    pub smallest_budget: u64,
}

/// Where a plan's tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenBasis {
    /// The data, with the model's tokenizer.
    Tokenizer,
    /// The data, at four characters a token: the model's folder has no tokenizer.
    Characters,
    /// No data: every prompt and response as long as the recipe allows.
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
    /// Prompts that are cut.
    pub cut_prompts: usize,
    /// Responses that are cut.
    pub cut_responses: usize,
    /// Tokens of the longest response with its prompt.
    pub longest: usize,
}

/// Steps of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedSteps {
    /// Optimizer steps of the run; none where there is no data and the recipe does not say.
    pub total: Option<usize>,
    /// Prompts of a step.
    pub groups_per_step: usize,
    /// Packs of a step, on average and at most; each goes forward and back on its own.
    pub packs_per_step: f64,
    /// The most packs of a step.
    pub most_packs: usize,
    /// Tokens of the pack that needs most memory.
    pub pack_tokens: usize,
    /// Blocks that keep their activations in that pack; the others run again.
    pub kept_blocks: usize,
    /// Tokens of all steps as they are computed; of one step where the number of steps is not known.
    pub tokens: u64,
}

/// Disk of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedDisk {
    /// One checkpoint: what is trained and two moments, in float32.
    pub checkpoint: u64,
    /// Checkpoints that stay; none where the number of steps is not known.
    pub num_checkpoints: Option<usize>,
    /// The final model or adapter.
    pub model: u64,
    /// The most that is there at once: one checkpoint is written before an old one goes.
    pub peak: Option<u64>,
}

/// Time of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedTime {
    /// Steps that were computed to find out.
    pub measured_steps: usize,
    /// Tokens of training a second.
    pub tokens_per_second: f64,
    /// A step of the run, on average.
    pub step_seconds: f64,
    /// Scoring the reference, where nothing of it is in the cache.
    pub reference_seconds: f64,
    /// All of it, without reading, evaluation and writing; none where the number of steps is not known.
    pub total_seconds: Option<f64>,
}
