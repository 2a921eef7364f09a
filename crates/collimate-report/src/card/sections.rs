//! The text of a card, one function per section.

use collimate_data::counted;
use std::fmt::Write;

use collimate_recipe::{DataSources, Recipe};
use serde_json::Value;

use super::citation::linked;
use super::{BURN_VERSION, CardInput};
use crate::numbers::result_texts;

/// Figures of the first and last step and, with the prefix `eval_`, of the first and last evaluation.
const FIGURES: [&str; 9] = [
    "loss",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "log_ratios/chosen",
    "grad_norm",
];

pub(super) fn overview(input: &CardInput<'_>) -> String {
    let recipe = input.recipe;
    let objective = &recipe.objective.name;
    let kind = if recipe.use_peft { "LoRA adapter" } else { "model" };
    let data = recipe.data.as_ref().map_or_else(|| "unknown".to_owned(), DataSources::file_names);
    let evaluated = recipe.eval_data.as_ref().map(|data| format!("\n| Evaluation data | {} |", data.file_names()));
    let saved = input.saved.and_then(|row| row.get("step")).map(|step| format!(", the best evaluation after {step}"));
    let hash = input.base_hash.map(|hash| format!(" (BLAKE3 `{hash}`)")).unwrap_or_default();
    format!(
        "# {}\n\nA {kind} aligned with the objective `{objective}` ({}) from explicit rewards.\n\n\
         | | |\n|---|---|\n| Base | {}{hash} |\n| Data | {data}, {} |{}\n| Objective | {objective}{} |\n\
         | Paper | {} |\n| Steps | {} of {}{} |\n| Made with | Collimate {}, burn {BURN_VERSION} |\n",
        input.name(),
        lower_first(input.summary),
        input.base,
        counted(input.num_groups, "prompt"),
        evaluated.unwrap_or_default(),
        parameters(recipe),
        linked(input.paper),
        input.num_steps,
        counted(recipe.groups_per_step(), "prompt"),
        saved.unwrap_or_default(),
        env!("CARGO_PKG_VERSION"),
    )
}

fn lower_first(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_lowercase().chain(rest).collect()).unwrap_or_default()
}

fn parameters(recipe: &Recipe) -> String {
    let given = recipe.objective.params.iter().map(|(name, value)| format!("{name} {value}"));
    let given: Vec<String> = given.collect();
    if given.is_empty() { String::new() } else { format!(" ({})", given.join(", ")) }
}

/// How to load the folder in Python and export it here.
pub(super) fn usage(input: &CardInput<'_>) -> String {
    let (base, name) = (input.base_name(), input.name());
    let python = match input.recipe.use_peft {
        true => format!(
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
             tokenizer = AutoTokenizer.from_pretrained(\"{name}\")\n\
             base = AutoModelForCausalLM.from_pretrained(\"{base}\", dtype=\"auto\")\n\
             model = PeftModel.from_pretrained(base, \"{name}\")\n"
        ),
        false => format!(
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
             tokenizer = AutoTokenizer.from_pretrained(\"{name}\")\n\
             model = AutoModelForCausalLM.from_pretrained(\"{name}\", dtype=\"auto\")\n"
        ),
    };
    let shell = match input.recipe.use_peft {
        true => format!(
            "collimate merge --model {base} --adapter {name} --output {name}-merged\n\
             collimate export --model {base} --adapter {name} --outtype q8_0 --output {name}.gguf\n"
        ),
        false => format!("collimate export --model {name} --outtype q8_0 --output {name}.gguf\n"),
    };
    let lead = if input.recipe.use_peft { "As one folder of weights, or for" } else { "For" };
    format!("\n## Use\n\n```python\n{python}```\n\n{lead} llama.cpp:\n\n```console\n{shell}```\n")
}

/// Results beyond the metrics, before and after.
pub(super) fn results(input: &CardInput<'_>) -> String {
    let Some(Value::Object(entries)) = input.results else { return String::new() };
    let mut text = "\n## Results\n\n| result | before | after |\n|---|---|---|\n".to_owned();
    for (name, value) in entries {
        let [before, after] = result_texts(name, value);
        let _ = writeln!(text, "| {name} | {before} | {after} |");
    }
    text
}

/// Figures of training and evaluation at the start and the end.
pub(super) fn figures(input: &CardInput<'_>) -> String {
    let mut text = String::new();
    for (prefix, heading, first, last) in
        [("", "Training", "first step", "last step"), ("eval_", "Evaluation", "before", "after")]
    {
        let found = FIGURES.iter().filter_map(|name| Some((name, input.ends(&format!("{prefix}{name}"))?)));
        let lines: String = found.map(|(name, (a, b))| format!("| {prefix}{name} | {a:.4} | {b:.4} |\n")).collect();
        if !lines.is_empty() {
            let _ = write!(text, "\n## {heading}\n\n| figure | {first} | {last} |\n|---|---|---|\n{lines}");
        }
    }
    text
}

/// The recipe keys needed to repeat the run.
pub(super) fn arguments(input: &CardInput<'_>) -> String {
    const KEYS: [&str; 22] = [
        "learning_rate",
        "lr_scheduler_type",
        "lr_scheduler_kwargs",
        "warmup_ratio",
        "warmup_steps",
        "num_train_epochs",
        "max_steps",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "dataloader_drop_last",
        "max_length",
        "max_prompt_length",
        "max_grad_norm",
        "weight_decay",
        "decay_norms",
        "adam_beta1",
        "adam_beta2",
        "adam_epsilon",
        "normalize",
        "reward_from",
        "torch_dtype",
        "seed",
    ];
    const LORA: [&str; 4] = ["lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"];
    /// Shown where they say something.
    const MORE_LORA: [&str; 8] = [
        "lora_target_parameters",
        "lora_exclude_modules",
        "lora_layers_to_transform",
        "lora_layers_pattern",
        "lora_rank_pattern",
        "lora_alpha_pattern",
        "use_dora",
        "lora_modules_to_save",
    ];
    let recipe = serde_json::to_value(input.recipe).unwrap_or_default();
    let says_something = |key: &&&str| match recipe.get(**key) {
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(object)) => !object.is_empty(),
        value => value.and_then(Value::as_bool) != Some(false),
    };
    let lora = LORA.iter().chain(MORE_LORA.iter().filter(says_something));
    let keys = KEYS.iter().chain(lora.filter(|_| input.recipe.use_peft));
    let shown = keys.filter_map(|key| Some((key, recipe.get(key).filter(|value| !value.is_null())?)));
    let lines: String = shown
        .map(|(key, value)| {
            format!("| {key} | {} |\n", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    format!("\n## Training arguments\n\n| key | value |\n|---|---|\n{lines}\n{}\n", computed(input))
}

/// In which types the model was computed.
fn computed(input: &CardInput<'_>) -> String {
    let dtype = match input.recipe.compute_dtype.as_str() {
        "float32" => "AdamW, trained in float32.".to_owned(),
        other => format!("AdamW in float32, computed in {other}."),
    };
    let precision = match input.recipe.float32_matmul_precision.as_str() {
        "highest" => String::new(),
        lower => format!(" Products of float32 numbers in {lower} precision."),
    };
    let packing = input.base_packing.map(|format| format!(" The base model's linear layers were packed as {format}."));
    dtype + &precision + &packing.unwrap_or_default()
}
