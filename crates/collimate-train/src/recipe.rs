//! The recipe of a run: what YAML may say, its defaults, and how a key is set.
//!
//! The table below holds a key's name, type, default and documentation together. Keys are TRL's where TRL has one.

mod cache;
mod check;
mod error;
mod foreign;
mod limits;
mod load;
mod locate;
mod memory_budget;
mod mixture;
mod objective;
mod resolve;
mod schema;
mod sources;
mod values;

use std::path::PathBuf;

use collimate_backend::{BACKENDS, ComputeDtype};
use collimate_model::ShardSize;
use serde::Serialize;
use serde_yaml_ng::Value;

pub use cache::ReferenceCache;
pub use error::{Origin, Place, RecipeError};
pub(crate) use limits::MAX_RECIPE_BYTES;
pub use memory_budget::MemoryBudget;
pub use objective::ObjectiveSpec;
pub use schema::ObjectiveSchema;
pub use sources::DataSources;
use values::KeyType;
pub use values::{IntervalStrategy, OnNonfinite, TargetModules};

use crate::schedule::{Schedule, ScheduleKind};

/// One key of a recipe as help and documentation show it.
#[derive(Debug, Clone, Copy)]
pub struct RecipeKey {
    /// The key as a recipe spells it.
    pub name: &'static str,
    /// What it does, one or a few sentences.
    pub doc: &'static str,
    /// What its value must be, as errors say it.
    pub expected: &'static str,
    /// The JSON schema of its values.
    schema: fn() -> serde_json::Value,
}

impl RecipeKey {
    /// The JSON schema of the values that the key may have.
    pub fn schema(&self) -> serde_json::Value {
        (self.schema)()
    }
}

macro_rules! recipe_keys {
    ($( $(#[doc = $doc:literal])+ $key:ident : $type:ty = $default:expr, )+) => {
        /// Everything that determines a run. Unknown keys are refused; each has a default but the model and the data.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        pub struct Recipe { $( $(#[doc = $doc])+ pub $key: $type, )+ }

        impl Default for Recipe {
            fn default() -> Self {
                Self { $( $key: $default, )+ }
            }
        }

        impl Recipe {
            /// Every key, in the order of the resolved recipe.
            pub const KEYS: &'static [RecipeKey] = &[ $( RecipeKey {
                name: stringify!($key),
                doc: concat!($($doc),+),
                expected: <$type as KeyType>::EXPECTED,
                schema: <$type as KeyType>::schema,
            }, )+ ];

            /// Sets one key; the error says what was expected. `None` where there is no such key.
            fn set_key(&mut self, key: &str, value: &Value) -> Option<Result<(), &'static str>> {
                match key {
                    $( stringify!($key) => Some(match <$type as KeyType>::from_yaml(value) {
                        Some(parsed) => { self.$key = parsed; Ok(()) }
                        None => Err(<$type as KeyType>::EXPECTED),
                    }), )+
                    _ => None,
                }
            }
        }
    };
}

recipe_keys! {
    /// Model to train: a folder in the Hugging Face layout, or a name on the hub, as `org/name`, `org/name@revision` or
    /// `hf://org/name`.
    model_name_or_path: Option<PathBuf> = None,
    /// Type that the trained weights are stored in: `float32`, `bfloat16`, `float16`, or `auto` (as the base). What is
    /// computed in is `compute_dtype`. `dtype` is another name.
    torch_dtype: Option<String> = None,
    /// Type that the model computes in: `float32`, or `bfloat16` for weights and activations where the backend has it
    /// (`collimate backends`), with norms, softmax, log-probs, adapters, gradients, moments and the weights that are trained
    /// in float32.
    compute_dtype: String = ComputeDtype::Float32.name().to_owned(),
    /// PEFT adapter to start from: a folder, or a name on the hub.
    adapter: Option<PathBuf> = None,
    /// Reach no network: what is named on the hub is taken from its cache alone.
    offline: bool = false,
    /// What the policy is compared with: `start` (the model and adapter that the run starts from, the default),
    /// `base` (the model without an adapter), or a folder of a model or adapter.
    reference: Option<String> = None,
    /// Scored groups to train on: a file (JSON Lines, also compressed, Parquet, a JSON list), a folder of such, a pattern
    /// as `train-*.parquet`, a data set on the hub as `hf://datasets/org/name/data/*.parquet`, a list of them, or a table
    /// with the share of each one's groups that is taken, as `{a.jsonl: 0.5, b.jsonl: 1.0}`.
    data: Option<DataSources> = None,
    /// Scored groups to evaluate on, given as `data` is.
    eval_data: Option<DataSources> = None,
    /// Share of the training data that is held out to evaluate on; a prompt is never on both sides.
    eval_fraction: f64 = 0.0,
    /// Most groups that are taken of the training data, drawn from all of its files by the seed.
    max_samples: Option<usize> = None,
    /// Leave out training groups whose best and worst reward differ by less.
    min_reward_gap: f64 = 0.0,
    /// Leave out training groups whose rewards are all equal.
    drop_ties: bool = false,
    /// Layout of the data where it is not to be recognised by its fields.
    data_layout: Option<String> = None,
    /// How rewards are made from what the data holds, as in `collimate data convert`.
    reward_from: Option<String> = None,
    /// Direction of the data's scores where the layout does not declare it.
    higher_is_better: Option<bool> = None,
    /// Normalisation of the rewards of each prompt.
    normalize: Option<String> = None,
    /// Drop groups that cannot be used and count them, instead of refusing them.
    skip_unusable: bool = false,
    /// Most tokens of a prompt with one response.
    max_length: usize = 1024,
    /// Most tokens of a prompt; its end is kept.
    max_prompt_length: usize = 512,
    /// Most tokens of a response, its end token included; without it, what `max_length` leaves.
    max_completion_length: Option<usize> = None,
    /// The objective: a name, or `name` with the objective's own parameters.
    objective: ObjectiveSpec = ObjectiveSpec::named("nca"),
    /// Learning rate at its highest. The default is the published recipe's.
    learning_rate: f64 = 5e-6,
    /// Shape of the learning rate after warm-up.
    lr_scheduler_type: ScheduleKind = ScheduleKind::Cosine,
    /// Part of all steps that the learning rate rises over, rounded up to a step.
    warmup_ratio: f64 = 0.1,
    /// Steps that the learning rate rises over; where above zero it wins over `warmup_ratio`.
    warmup_steps: usize = 0,
    /// Optimizer steps of the run; where above zero it wins over `num_train_epochs`.
    max_steps: i64 = -1,
    /// Passes over the data; may be a fraction.
    num_train_epochs: f64 = 1.0,
    /// Prompts, each with all its responses, that are computed together.
    per_device_train_batch_size: usize = 4,
    /// Batches that make one optimizer step; the loss is the mean over all their prompts.
    gradient_accumulation_steps: usize = 1,
    /// Prompts computed together in evaluation and in scoring.
    per_device_eval_batch_size: usize = 4,
    /// Memory that the run may use, as `16GiB`, or `auto` for three quarters of what the device has. A batch that does
    /// not fit is computed in several packs, and blocks whose activations do not fit run again in backward.
    memory_budget: MemoryBudget = MemoryBudget::Auto,
    /// Keep only the inputs of blocks and run each again in backward, whatever the memory: less of it, more time.
    gradient_checkpointing: bool = false,
    /// Largest global norm of the gradient; zero means no clipping.
    max_grad_norm: f64 = 1.0,
    /// Decoupled weight decay of AdamW.
    weight_decay: f64 = 0.0,
    /// Decay of AdamW's mean of gradients.
    adam_beta1: f64 = 0.9,
    /// Decay of AdamW's mean of squared gradients.
    adam_beta2: f64 = 0.999,
    /// AdamW's epsilon.
    adam_epsilon: f64 = 1e-8,
    /// Weight of the balance loss of a model whose router picks experts (transformers' `load_balancing_loss_func`, over
    /// all tokens of a batch), added to the objective; zero for none. Without this key, the weight that the model's
    /// configuration has where it says `output_router_logits`, else none.
    router_aux_loss_coef: Option<f64> = None,
    /// What happens at a loss or gradient that is not finite: `stop` or `skip` the step and count it.
    on_nonfinite: OnNonfinite = OnNonfinite::Stop,
    /// Nats that the chosen responses' mean log-prob may fall below the reference's, in the mean of ten recorded steps,
    /// before the log and the report warn; zero never warns.
    alarm_chosen_drop: f64 = 10.0,
    /// Train a LoRA adapter instead of all weights; without this key, true where `adapter` is given.
    use_peft: bool = false,
    /// Rank of the adapter.
    lora_r: usize = 16,
    /// Scale of the adapter: its product is multiplied by alpha / r.
    lora_alpha: f64 = 16.0,
    /// Dropout of the input of the adapter in training.
    lora_dropout: f64 = 0.05,
    /// Linear layers that get an adapter: a list of names, or `all-linear`.
    lora_target_modules: TargetModules = TargetModules::all_linear(),
    /// Compute a prompt once for all its responses. Off, each response is a sequence of its own.
    share_prompt: bool = true,
    /// For TRL's recipes. The reference's log-probs are always computed before the first step, for the groups that the
    /// run visits, so both values mean the same.
    precompute_ref_log_probs: bool = false,
    /// Where the reference's log-probs are kept for later runs: `auto` (the user's cache folder), `false`, or a folder.
    /// They are looked up by the bytes of model and adapter and by token ids; the folder may be removed at any time.
    reference_cache: ReferenceCache = ReferenceCache::Auto,
    /// Visit the data in a random order that depends on the seed and the epoch only.
    shuffle: bool = true,
    /// Seed of every random draw.
    seed: u64 = 42,
    /// Steps between printed and recorded rows.
    logging_steps: usize = 1,
    /// When rows are recorded: `no` (the last step only), `steps` or `epoch`.
    logging_strategy: IntervalStrategy = IntervalStrategy::Steps,
    /// Record the first step too.
    logging_first_step: bool = false,
    /// When to evaluate: `no`, `steps` or `epoch`; with evaluation data it is always done at the start and the end.
    eval_strategy: IntervalStrategy = IntervalStrategy::Steps,
    /// Steps between evaluations; zero means only at the start and the end.
    eval_steps: usize = 0,
    /// When to write a checkpoint: `no`, `steps` or `epoch`; one is always written at the end.
    save_strategy: IntervalStrategy = IntervalStrategy::Steps,
    /// Steps between checkpoints; zero means only at the end.
    save_steps: usize = 0,
    /// Most checkpoints kept; the oldest goes first.
    save_total_limit: Option<usize> = None,
    /// Prompts, the first of the held-out data or else of the training data, that the model answers before and after
    /// training, token by likeliest token, for the report; zero for none.
    sample_prompts: usize = 3,
    /// Most tokens of such an answer.
    sample_max_new_tokens: usize = 64,
    /// Write TensorBoard event files into `tensorboard` of the run's folder; `report_to: tensorboard` asks for it too.
    tensorboard: bool = false,
    /// Most bytes of one file of the final model's weights, as `5GB` or `500MB`; what is more goes to several files with
    /// an index.
    max_shard_size: ShardSize = ShardSize::default(),
    /// Folder of the run.
    output_dir: PathBuf = PathBuf::from("collimate-run"),
    /// Compute backend; the default is the first that is compiled in.
    backend: Option<String> = None,
    /// Index of the backend's device.
    device: usize = 0,
    /// Threads for the CPU; zero means one a core.
    num_threads: usize = 0,
}

/// How many optimizer steps a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepPlan {
    /// Optimizer steps of one pass over the data; the last may hold fewer prompts.
    pub steps_per_epoch: usize,
    /// Optimizer steps of the run.
    pub total_steps: usize,
    /// Steps that the learning rate rises over.
    pub warmup_steps: usize,
}

impl Recipe {
    /// The backend named, or the first that is compiled in.
    pub fn backend_name(&self) -> &str {
        self.backend.as_deref().unwrap_or(BACKENDS[0].name)
    }

    /// The type that the model computes in.
    pub fn compute(&self) -> ComputeDtype {
        // Another name is refused when the recipe is read.
        ComputeDtype::from_name(&self.compute_dtype).unwrap_or_default()
    }

    /// Prompts of one optimizer step.
    pub fn groups_per_step(&self) -> usize {
        self.per_device_train_batch_size.saturating_mul(self.gradient_accumulation_steps)
    }

    /// Number of steps for so many groups, counted as transformers' trainer counts them.
    pub fn step_plan(&self, num_groups: usize) -> StepPlan {
        let steps_per_epoch = num_groups.div_ceil(self.groups_per_step().max(1)).max(1);
        let total_steps = match usize::try_from(self.max_steps) {
            Ok(steps) if steps > 0 => steps,
            _ => (self.num_train_epochs * steps_per_epoch as f64).ceil() as usize,
        };
        let warmup_steps = match self.warmup_steps {
            0 => (self.warmup_ratio * total_steps as f64).ceil() as usize,
            steps => steps,
        };
        StepPlan { steps_per_epoch, total_steps, warmup_steps }
    }

    /// The learning rate of every step of a plan.
    pub fn schedule(&self, plan: &StepPlan) -> Schedule {
        Schedule::new(self.lr_scheduler_type, self.learning_rate, plan.warmup_steps, plan.total_steps)
    }

    /// Whether to evaluate after so many finished steps, not counting the evaluations at the start and the end.
    pub fn evaluates_after(&self, finished_steps: usize, plan: &StepPlan) -> bool {
        self.eval_strategy.is_due(finished_steps, self.eval_steps, plan.steps_per_epoch)
    }

    /// Whether to write a checkpoint after so many finished steps, not counting the one at the end.
    pub fn saves_after(&self, finished_steps: usize, plan: &StepPlan) -> bool {
        self.save_strategy.is_due(finished_steps, self.save_steps, plan.steps_per_epoch)
    }

    /// Whether to record the figures of the step that was just finished; those of the last always are.
    pub fn logs_after(&self, finished_steps: usize, plan: &StepPlan) -> bool {
        let first = self.logging_first_step && finished_steps == 1;
        first || self.logging_strategy.is_due(finished_steps, self.logging_steps, plan.steps_per_epoch)
    }

    /// The recipe with every key spelled out, as YAML that [`Recipe::load`] reads back to an equal recipe.
    ///
    /// # Errors
    /// Where a path is not UTF-8.
    pub fn resolved_yaml(&self) -> Result<String, RecipeError> {
        serde_yaml_ng::to_string(self).map_err(|error| RecipeError::Write { message: error.to_string() })
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod trl_tests;
