//! The recipe of a run and its keys.

use std::path::PathBuf;

use collimate_data::LabelConflicts;
use collimate_files::ShardSize;
use serde::Serialize;
use serde_yaml_ng::Value;

use crate::cache::CacheFolder;
use crate::error::RecipeError;
use crate::figure_limits::FigureLimits;
use crate::frozen::FrozenParts;
use crate::interval::NumSteps;
use crate::keys::{RecipeKey, recipe_keys};
use crate::lora_keys::{ExcludedModules, LayerList, ModuleList, PatternValues};
use crate::memory_budget::MemoryBudget;
use crate::objective::ObjectiveSpec;
use crate::report_to::Trackers;
use crate::router_loss::RouterLoss;
use crate::rows::{FieldNames, TemplateVariables};
use crate::schedule::{ScheduleArguments, ScheduleKind};
use crate::sources::DataSources;
use crate::strategy::{IntervalStrategy, OnNonfinite};
use crate::target_modules::TargetModules;
use crate::values::KeyType;
use crate::weight_place::WEIGHT_PLACES;

/// Values of `compute_dtype`, the default first.
pub const COMPUTE_DTYPES: [&str; 2] = ["float32", "bfloat16"];

/// Values of `float32_matmul_precision`, the default first.
pub const MATMUL_PRECISIONS: [&str; 3] = ["highest", "high", "medium"];

/// Values of `quantization`, the default first.
pub const QUANTIZATIONS: [&str; 4] = ["none", "nf4", "nf4-double", "int8"];

/// Values of `model_dropout`, the default first.
pub const MODEL_DROPOUTS: [&str; 2] = ["none", "published"];

recipe_keys! {
    /// Model to train: a folder in the Hugging Face layout, or a name on the hub, as `org/name`, `org/name@revision` or
    /// `hf://org/name`.
    model_name_or_path: Option<PathBuf> = None,
    /// Type in which the trained weights are saved: `float32`, `bfloat16`, `float16`, or `auto`: that of the base model, or
    /// float32 if rounding to it would take much of what was learned. Computation has a key of its own, `compute_dtype`.
    /// Alias: `dtype`.
    torch_dtype: Option<String> = None,
    /// Type in which the model computes: `float32`, or `bfloat16` for weights and activations if the backend supports it
    /// (`collimate backends`). Norms, softmax, log-probs, adapters, gradients, moments and trained weights stay in float32.
    compute_dtype: String = COMPUTE_DTYPES[0].to_owned(),
    /// How exact products of float32 numbers are, by PyTorch's names: `highest` (float32), `high` (each number as the sum of two
    /// bfloat16 numbers) or `medium` (each number rounded to bfloat16), for flex. Where the processor's instructions for bfloat16
    /// would not be faster, products are in float32 all the same.
    float32_matmul_precision: String = MATMUL_PRECISIONS[0].to_owned(),
    /// Format into which the base model's linear layers are packed when they are read, for adapters: `nf4` (four bits, as
    /// bitsandbytes and QLoRA), `nf4-double` (with packed scales), `int8` (eight bits), or `none`. A base whose files are
    /// packed already stays as it is.
    quantization: String = QUANTIZATIONS[0].to_owned(),
    /// Where weights of linear layers are kept that are not trained: `resident` (in memory), `mapped` (in their files, packed or
    /// not, where one is read at a time), or `auto`: mapped if `memory_budget` is too small for them.
    weights: String = WEIGHT_PLACES[0].to_owned(),
    /// PEFT adapter to start from: a folder, or a name on the hub.
    adapter: Option<PathBuf> = None,
    /// Do not use the network; take models and data sets of the hub from its cache.
    offline: bool = false,
    /// Model that the policy is compared with: `start` (the model and adapter that the run starts from; the default),
    /// `base` (the model without an adapter), or a folder of a model or adapter.
    reference: Option<String> = None,
    /// Scored groups to train on: a file (JSON Lines, also compressed, Parquet, a JSON list), a folder of files, a pattern
    /// such as `train-*.parquet`, a data set on the hub such as `hf://datasets/org/name/data/*.parquet`, a list of these, or
    /// a table that gives the share of groups to take from each, as `{a.jsonl: 0.5, b.jsonl: 1.0}`.
    data: Option<DataSources> = None,
    /// Scored groups to evaluate on, in the same forms as `data`.
    eval_data: Option<DataSources> = None,
    /// Share of the training data to hold out for evaluation, or a number of prompts above 1; a prompt is never on both
    /// sides.
    eval_fraction: f64 = 0.0,
    /// Maximum number of training groups, drawn from all files by the seed.
    max_samples: Option<usize> = None,
    /// Leave out training groups whose best and worst reward differ by less than this.
    min_reward_gap: f64 = 0.0,
    /// Leave out training groups whose rewards are all equal.
    drop_ties: bool = false,
    /// Layout of the data; by default it is recognized by its fields.
    data_layout: Option<String> = None,
    /// How rewards are derived from the data, as in `collimate data convert`.
    reward_from: Option<String> = None,
    /// Direction of the scores, if the layout does not declare it.
    higher_is_better: Option<bool> = None,
    /// Normalization of the rewards of each prompt.
    normalize: Option<String> = None,
    /// What decides where a row's label (`chosen`) contradicts its scores: `label` (the score of the response that it
    /// names and the highest are exchanged, for objectives that read rewards), `scores` (the label is ignored), or `drop`
    /// (such rows are left out). Such rows are counted in the log.
    label_conflicts: LabelConflicts = LabelConflicts::Label,
    /// Fields to ignore wherever rows, their messages or their responses have them. For fields that are refused because
    /// they would change the meaning of a row, such as `margin`.
    ignore_fields: FieldNames = FieldNames::default(),
    /// Chat template, as Jinja, instead of the model's; it is saved with the result.
    chat_template: Option<String> = None,
    /// Where to take the chat template from: a Jinja file (`.jinja`, `.j2`), or a folder of a model or tokenizer, whose
    /// end-of-sequence token then ends responses too. It is saved with the result.
    chat_template_path: Option<PathBuf> = None,
    /// Variables of the chat template, such as `{enable_thinking: false}`; those of a row win.
    chat_template_kwargs: TemplateVariables = TemplateVariables::default(),
    /// System prompt of conversations that have no system turn.
    system_prompt: Option<String> = None,
    /// Token that ends a turn or sequence, instead of the model's; it must be in the vocabulary and is saved with the
    /// result.
    eos_token: Option<String> = None,
    /// Leave out and count unusable responses and groups instead of refusing the data.
    skip_unusable: bool = false,
    /// Maximum number of tokens of a prompt with one response; null for no limit.
    max_length: Option<usize> = Some(1024),
    /// Maximum number of tokens of a prompt; longer prompts keep their end. Null for no limit. By default 512, or half of
    /// `max_length` if that is 512 or less.
    max_prompt_length: Option<usize> = Some(512),
    /// Leave out and count groups whose prompt leaves no room for a response, instead of refusing the data.
    skip_long_prompts: bool = false,
    /// Maximum number of tokens of a response, including its end token; by default what `max_length` leaves.
    max_completion_length: Option<usize> = None,
    /// The objective: a name, or a table with `name` and the objective's own parameters.
    objective: ObjectiveSpec = ObjectiveSpec::named("nca"),
    /// Peak learning rate. The default is that of the published recipe.
    learning_rate: f64 = 5e-6,
    /// Shape of the learning rate after warm-up, by its name in transformers.
    lr_scheduler_type: ScheduleKind = ScheduleKind::Cosine,
    /// Arguments of the schedule by their names in transformers, as `{min_lr_rate: 0.1}` for `cosine_with_min_lr`.
    lr_scheduler_kwargs: ScheduleArguments = ScheduleArguments::default(),
    /// Share of all steps used for warm-up, rounded up to a whole step.
    warmup_ratio: f64 = 0.1,
    /// Number of warm-up steps, or their share of all steps; if above zero, it overrides `warmup_ratio`.
    warmup_steps: NumSteps = NumSteps::Count(0),
    /// Number of optimizer steps; if above zero, it overrides `num_train_epochs`.
    max_steps: i64 = -1,
    /// Passes over the data; may be a fraction.
    num_train_epochs: f64 = 1.0,
    /// Prompts, each with all its responses, in one micro-batch.
    per_device_train_batch_size: usize = 4,
    /// Micro-batches in one optimizer step, on each of several processes; the loss is the mean over all their prompts.
    gradient_accumulation_steps: usize = 1,
    /// Leave out the prompts of an epoch that do not fill a micro-batch.
    dataloader_drop_last: bool = false,
    /// Prompts that are scored together in evaluation and for the reference.
    per_device_eval_batch_size: usize = 4,
    /// Memory that the run may use, all its processes on a machine together, such as `16GiB`, or `auto` for three quarters of
    /// what the device has and of what the process's control groups and `ulimit` allow. A micro-batch that does not fit is divided into packs; blocks whose
    /// activations do not fit are recomputed in the backward pass.
    memory_budget: MemoryBudget = MemoryBudget::Auto,
    /// Keep only the inputs of blocks and recompute each block in the backward pass even if memory would allow more: uses
    /// less memory and more time.
    gradient_checkpointing: bool = false,
    /// Global gradient norm to clip at; zero disables clipping.
    max_grad_norm: f64 = 1.0,
    /// Decoupled weight decay of AdamW.
    weight_decay: f64 = 0.0,
    /// Weight decay also on norms and biases.
    decay_norms: bool = true,
    /// AdamW's decay of the mean gradient.
    adam_beta1: f64 = 0.9,
    /// AdamW's decay of the mean squared gradient.
    adam_beta2: f64 = 0.999,
    /// AdamW's epsilon.
    adam_epsilon: f64 = 1e-8,
    /// Weight of the router's balance loss (transformers' `load_balancing_loss_func`, over all tokens of a
    /// micro-batch) for mixtures of experts; zero disables it. `model` is the weight in the model's configuration; by default
    /// it is that if the configuration sets `output_router_logits`, else none.
    router_aux_loss_coef: RouterLoss = RouterLoss::IfConfigured,
    /// What to do about a loss or gradient that is not finite: `stop` the run, or `skip` and count the step.
    on_nonfinite: OnNonfinite = OnNonfinite::Stop,
    /// Warn in the log and the report once the chosen responses' mean log-prob, averaged over ten recorded steps, is this
    /// many nats below the reference's; zero never warns.
    alarm_chosen_drop: f64 = 10.0,
    /// Parts of an image-and-text model that stay as they are where all weights are trained: `visual` (the vision tower with its
    /// merger), `merger`, or a list of both.
    freeze: FrozenParts = FrozenParts::default(),
    /// Train a LoRA adapter instead of all weights. Defaults to true if `adapter` is given.
    use_peft: bool = false,
    /// Rank of the adapter.
    lora_r: usize = 16,
    /// Scale of the adapter: its product is multiplied by alpha / r.
    lora_alpha: f64 = 16.0,
    /// Dropout on the adapter's input during training.
    lora_dropout: f64 = 0.05,
    /// What training drops at random in the model itself, whether or not it has an adapter: `none`, or what the family was
    /// `published` with: for `llamagen` a tenth of the numbers of embeddings and of what each layer adds, for `var` whole layers
    /// at a rate that grows to 0.1 · depth/24. The reference drops nothing.
    model_dropout: String = MODEL_DROPOUTS[0].to_owned(),
    /// Linear layers that get an adapter: a list of names, a regular expression of whole names (both as in PEFT),
    /// `all-linear`, or `peft-default`, PEFT's choice for the model's type.
    lora_target_modules: TargetModules = TargetModules::AllLinear,
    /// Parameters that hold the weights of all experts of a block and get an adapter, by their names or what follows a dot in them
    /// (PEFT's `target_parameters`): `gate_up_proj`, `down_proj`.
    lora_target_parameters: ModuleList = ModuleList::default(),
    /// Linear layers that get no adapter though they are targets: a list of names, or a regular expression of whole names.
    lora_exclude_modules: ExcludedModules = ExcludedModules::none(),
    /// Numbers of the layers whose targets get an adapter; all by default. Targets given by their whole name get one anyway.
    lora_layers_to_transform: LayerList = LayerList::default(),
    /// What stands before a layer's number in the names of its modules, if it is not one name: a list of patterns.
    lora_layers_pattern: ModuleList = ModuleList::default(),
    /// Ranks of targets that differ from `lora_r`, by pattern: the whole name, or what follows a dot in it.
    lora_rank_pattern: PatternValues<usize> = PatternValues::default(),
    /// Scales of targets that differ from `lora_alpha`, by pattern.
    lora_alpha_pattern: PatternValues<f64> = PatternValues::default(),
    /// Train the length of each row of an adapted weight beside its direction (DoRA), as PEFT does.
    use_dora: bool = false,
    /// Modules that are trained whole beside the adapter and saved with it: `lm_head`, `embed_tokens`.
    lora_modules_to_save: ModuleList = ModuleList::default(),
    /// Compute each prompt once for all its responses. If false, each response is a sequence of its own.
    share_prompt: bool = true,
    /// Compute the reference's log-probs of all groups that the run visits before the first step. With `false` that is done
    /// only where training changes the reference; else each group is scored before the first step that visits it. Results
    /// are the same.
    precompute_ref_log_probs: bool = false,
    /// Where to keep the reference's log-probs for later runs: `auto` (the user's cache folder), `false`, or a folder.
    /// Entries are keyed by the bytes of model and adapter and by token ids; the folder may be deleted at any time.
    reference_cache: CacheFolder = CacheFolder::Auto,
    /// Where to keep the data's tokens for later runs: `auto` (the user's cache folder), `false`, or a folder. Entries are
    /// keyed by the content of the data and by everything that its tokens depend on; the oldest are removed beyond 64 GiB, and
    /// the folder may be deleted at any time. With `false` they are in a private file in `TMPDIR` (or else `/var/tmp`).
    token_cache: CacheFolder = CacheFolder::Auto,
    /// Visit the data in a random order, which depends on the seed and the epoch only.
    shuffle: bool = true,
    /// Seed of every random draw.
    seed: u64 = 42,
    /// Steps between logged rows, or their share of all steps.
    logging_steps: NumSteps = NumSteps::Count(1),
    /// When to log rows: `no` (the last step only), `steps` or `epoch`.
    logging_strategy: IntervalStrategy = IntervalStrategy::Steps,
    /// Log the first step too.
    logging_first_step: bool = false,
    /// When to evaluate: `no`, `steps` or `epoch`. With evaluation data, every run evaluates at its start and end.
    eval_strategy: IntervalStrategy = IntervalStrategy::Steps,
    /// Steps between evaluations, or their share of all steps; zero means only at the start and the end.
    eval_steps: NumSteps = NumSteps::Count(0),
    /// When to write a checkpoint, besides those of `save_minutes`: `no`, `steps` or `epoch`; one is always written at the
    /// end.
    save_strategy: IntervalStrategy = IntervalStrategy::Steps,
    /// Steps between checkpoints, or their share of all steps; zero means only at the end.
    save_steps: NumSteps = NumSteps::Count(0),
    /// Minutes after which a checkpoint is written if no other was; the next one replaces it. Zero turns it off. Results do
    /// not depend on it.
    save_minutes: f64 = 15.0,
    /// Maximum number of checkpoints to keep; the oldest is deleted first.
    save_total_limit: Option<usize> = None,
    /// Save the weights of the best evaluation instead of the last ones. An evaluation that is better than all before it writes a
    /// checkpoint, which is kept beside those of `save_total_limit`.
    load_best_model_at_end: bool = false,
    /// Figure of an evaluation that says which is best, with or without `eval_` before it, such as `rewards/accuracies`; by
    /// default `loss`.
    metric_for_best_model: Option<String> = None,
    /// Whether more of that figure is better; by default it is, unless the figure's name ends with `loss`.
    greater_is_better: Option<bool> = None,
    /// Number of evaluations in a row without improvement after which the run ends; by default it does not.
    early_stopping_patience: Option<usize> = None,
    /// How far the figure must improve on the best so far to count for `early_stopping_patience`.
    early_stopping_threshold: f64 = 0.0,
    /// End the run once a figure of an evaluation has moved this far from its first value, as
    /// `{log_ratios/chosen: -5, rewards/accuracies: -0.05, lengths/correlation: 0.2}`: a negative number is the fall that is
    /// allowed, a positive one the rise.
    stop_on_drift: FigureLimits = FigureLimits::default(),
    /// Number of prompts that the model answers before and after training, for the report: the first of the held-out data,
    /// else of the training data. Zero disables it.
    sample_prompts: usize = 3,
    /// Maximum number of tokens of such an answer, decoded greedily.
    sample_max_new_tokens: usize = 64,
    /// Largest share of the run's time that these answers may take, half before and half after training; fewer prompts are
    /// answered, and answers cut short, to keep to it, but not before one second each time. 1 is no limit.
    sample_time_share: f64 = 0.05,
    /// Write TensorBoard event files into `tensorboard` of the run's folder; `report_to: tensorboard` does the same.
    tensorboard: bool = false,
    /// Experiment trackers to send each row of metrics to: `wandb`, `mlflow`, `trackio`, or a list. Each needs its Python package
    /// (docs/curves.md); `report_to` sets them.
    trackers: Trackers = Trackers::default(),
    /// Maximum size of one weights file of the final model, such as `5GB` or `500MB`; larger models are split into several
    /// files with an index.
    max_shard_size: ShardSize = ShardSize::default(),
    /// File to which every line of the log is appended with its time; `--log-file` does the same.
    log_file: Option<PathBuf> = None,
    /// Folder of the run.
    output_dir: PathBuf = PathBuf::from("collimate-run"),
    /// Compute backend; by default the first that is compiled in.
    backend: Option<String> = None,
    /// Index of the backend's device; of several processes on a machine, that of the first.
    device: usize = 0,
    /// CPU threads, of all processes on a machine together; zero means one per core.
    num_threads: usize = 0,
}

impl Recipe {
    /// The recipe with every key spelled out, as YAML that [`Recipe::parse`] reads back to an equal recipe.
    ///
    /// # Errors
    /// Where a path is not UTF-8.
    pub fn resolved_yaml(&self) -> Result<String, RecipeError> {
        serde_yaml_ng::to_string(self).map_err(|error| RecipeError::Write { message: error.to_string() })
    }
}
