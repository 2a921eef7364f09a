//! Keys of TRL, transformers and the alignment handbook that recipes here do not need.
//!
//! They are known by name, so that their recipes load as they are, and sorted by whether leaving them out would change the
//! result.

use serde_yaml_ng::Value;

use crate::values::show;

/// Keys that do not affect what a run computes: where it logs, how it loads, what it runs on. One string for each source:
/// transformers' `TrainingArguments`, TRL's `ModelConfig` and `DPOConfig`, and the alignment handbook.
const WITHOUT_EFFECT: [&str; 3] = [
    "accelerator_config auto_find_batch_size average_tokens_across_devices batch_eval_metrics bf16_full_eval \
     dataloader_num_workers dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor \
     ddp_backend ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_timeout ddp_timeout_sec \
     debug deepspeed disable_tqdm do_predict do_train eval_accumulation_steps eval_on_start \
     eval_use_gather_object fp16_backend fp16_full_eval fp16_opt_level fsdp fsdp_config fsdp_min_num_params \
     fsdp_transformer_layer_cls_to_wrap full_determinism gradient_checkpointing_kwargs greater_is_better \
     half_precision_backend hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy hub_token \
     include_for_metrics include_inputs_for_metrics include_num_input_tokens_seen include_tokens_per_second \
     jit_mode_eval label_names length_column_name local_rank log_level log_level_replica log_on_each_node \
     logging_dir logging_nan_inf_filter metric_for_best_model mp_parameters no_cuda overwrite_output_dir \
     past_index prediction_loss_only project push_to_hub_model_id push_to_hub_organization \
     push_to_hub_token ray_scope remove_unused_columns restore_callback_states_from_checkpoint run_name \
     save_on_each_node save_only_model save_safetensors skip_memory_metrics split_batches tf32 torch_compile \
     torch_compile_backend torch_compile_mode torch_empty_cache_steps torchdynamo tpu_metrics_debug tpu_num_cores \
     trackio_space_id use_cpu use_ipex use_legacy_prediction_loop use_liger_kernel use_mps_device",
    "attn_implementation base_model_revision bnb_4bit_compute_dtype bnb_4bit_quant_storage bnb_4bit_quant_type \
     dataset_num_proc force_use_ref_model generate_during_eval is_encoder_decoder label_pad_token_id \
     max_target_length lora_task_type model_adapter_name model_code_revision model_init_kwargs model_revision \
     pad_token pad_to_multiple_of padding_free padding_value precompute_ref_batch_size ref_adapter_name \
     ref_model_init_kwargs ref_model_mixup_alpha ref_model_sync_steps trust_remote_code use_bnb_nested_quant \
     use_flash_attention_2 use_liger_loss use_logits_to_keep use_num_logits_to_keep use_unsloth",
    "benchmarks callbacks columns_to_keep dataset_config dataset_configs dataset_kwargs dataset_streaming \
     dataset_text_field ignore_bias_buffers preprocessing_num_workers wandb_entity wandb_log_unique_prompts \
     wandb_project wandb_run_group",
];

fn without_effect() -> impl Iterator<Item = &'static str> {
    WITHOUT_EFFECT.iter().flat_map(|keys| keys.split_whitespace())
}

/// A key that could change the result.
struct Meaningful {
    name: &'static str,
    /// Values without effect, besides empty, false and zero.
    neutral: &'static [&'static str],
    /// What is done instead, or why the key is refused.
    remark: &'static str,
}

const fn key(name: &'static str, remark: &'static str) -> Meaningful {
    Meaningful { name, neutral: &[], remark }
}

const fn key_unless(name: &'static str, neutral: &'static [&'static str], remark: &'static str) -> Meaningful {
    Meaningful { name, neutral, remark }
}

/// Keys whose purpose is served in another way.
const INSTEAD: &[Meaningful] = &[
    key("assistant_only_loss", "the last turn is scored"),
    key("auto_insert_empty_system_msg", "no system message is added"),
    key_unless("completion_only_loss", &["true"], "only responses are scored"),
    key("data_seed", "seed determines the order of the data"),
    key("dataloader_drop_last", "the last, smaller step of an epoch is taken"),
    key("disable_dropout", "the model has no dropout; lora_dropout is the adapter's"),
    key("eval_delay", "evaluation begins at the start"),
    key("group_by_length", "the order depends on the seed only"),
    key("ignore_data_skip", "a resumed run continues where it stopped"),
    key("load_best_model_at_end", "the last weights are kept"),
    key("load_in_4bit", "the base is not quantised"),
    key("load_in_8bit", "the base is not quantised"),
    key("packing", "prompts are computed together without padding and do not attend to each other"),
    key("parallelism_config", "a run uses one device"),
    key("resume_from_checkpoint", "--resume continues from the last checkpoint"),
    key("tokenizer_name_or_path", "the tokenizer in the model's folder is used"),
    key("tokenizer_name", "the tokenizer in the model's folder is used"),
    key_unless("truncation_mode", &["keep_end"], "prompts keep their end"),
];

/// Keys without any counterpart here: the user has to decide.
const REFUSED: &[Meaningful] = &[
    key("adafactor", "only AdamW is supported"),
    key_unless("f_divergence_type", &["reverse_kl"], "only reverse_kl is supported"),
    key_unless("ld_alpha", &["1", "1.0"], "length-desensitised log-probs are not supported"),
    key("lr_scheduler_kwargs", "schedules have no parameters beyond warmup_ratio and warmup_steps"),
    key("neftune_noise_alpha", "noise on embeddings is not supported"),
    key("optim_args", "AdamW is set by adam_beta1, adam_beta2, adam_epsilon and weight_decay"),
    key("optim_target_modules", "one optimizer trains everything that is trained"),
    key("lora_target_parameters", "adapters are for linear layers: lora_target_modules"),
    key("reference_free", "choose an objective without a reference: simpo, cpo or orpo"),
    key("sync_ref_model", "the reference does not change during a run"),
    key("use_weighting", "WPO's weights are not supported"),
];

/// transformers' names for AdamW with moments in float32.
const OPTIMIZERS: &[&str] = &[
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_torch_xla",
    "adamw_torch_npu_fused",
    "adamw_apex_fused",
    "adamw_anyprecision",
    "adamw_hf",
    "adamw",
    "paged_adamw_32bit",
    "paged_adamw",
];

/// transformers' names for AdamW with smaller moments.
const SMALL_STATES: &[&str] =
    &["adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "adamw_torch_4bit", "adamw_torch_8bit"];

/// What to tell the user about a recipe's keys of other trainers.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    without_effect: Vec<String>,
    instead: Vec<String>,
}

impl Notes {
    /// Notes a key that changes nothing.
    pub(crate) fn without_effect(&mut self, key: &str) {
        let key = key.to_owned();
        if !self.without_effect.contains(&key) {
            self.without_effect.push(key);
        }
    }

    /// Notes what is done instead of what a key asks for.
    pub(crate) fn instead(&mut self, key: &str, what: &str) {
        let note = format!("{key} ({what})");
        if !self.instead.contains(&note) {
            self.instead.push(note);
        }
    }

    /// One line for each kind of note.
    pub(crate) fn lines(&self) -> Vec<String> {
        let kinds = [("without effect here", &self.without_effect), ("done differently here", &self.instead)];
        let present = kinds.into_iter().filter(|(_, keys)| !keys.is_empty());
        present.map(|(kind, keys)| format!("{kind}: {}", keys.join(", "))).collect()
    }
}

/// Accepts a key of another trainer; an error if it asks for something unsupported, `None` if it is unknown.
pub(crate) fn accept(key: &str, value: &Value, notes: &mut Notes) -> Option<Result<(), String>> {
    if without_effect().any(|known| known == key) {
        notes.without_effect(key);
        return Some(Ok(()));
    }
    let find = |table: &'static [Meaningful]| table.iter().find(|known| known.name == key);
    if let Some(known) = find(INSTEAD) {
        if known.asks_for_something(value) {
            notes.instead(key, known.remark);
        }
        return Some(Ok(()));
    }
    let known = find(REFUSED)?;
    Some(match known.asks_for_something(value) {
        true => Err(format!("{} would change the result: {}", show(value), known.remark)),
        false => Ok(()),
    })
}

/// Accepts the name of an optimizer if it is a form of AdamW.
pub(crate) fn optimizer(name: &str, notes: &mut Notes) -> Result<(), String> {
    if OPTIMIZERS.contains(&name) {
        return Ok(());
    }
    if SMALL_STATES.contains(&name) {
        notes.instead("optim", "AdamW's moments are in float32");
        return Ok(());
    }
    let nearest = OPTIMIZERS.iter().map(|known| (strsim::jaro_winkler(name, known), known));
    match nearest.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.8) {
        Some((_, nearest)) => Err(format!("\"{name}\" is not a form of AdamW; did you mean \"{nearest}\"?")),
        None => Err(format!("only AdamW is supported (adamw_torch and its variants), not \"{name}\"")),
    }
}

impl Meaningful {
    fn asks_for_something(&self, value: &Value) -> bool {
        let (is_nothing, text) = match value {
            Value::Null => (true, String::new()),
            Value::Bool(flag) => (!flag, flag.to_string()),
            Value::Number(number) => (number.as_f64() == Some(0.0), number.to_string()),
            Value::String(text) => (text.is_empty(), text.clone()),
            Value::Sequence(items) => (items.is_empty(), String::new()),
            Value::Mapping(entries) => (entries.is_empty(), String::new()),
            Value::Tagged(_) => (false, String::new()),
        };
        !is_nothing && !self.neutral.contains(&text.as_str())
    }
}

/// Every key of these tables with its documentation.
pub(crate) fn keys() -> impl Iterator<Item = (&'static str, String)> {
    let without = without_effect().map(|name| (name, "Without effect here.".to_owned()));
    let instead = INSTEAD.iter().map(|key| (key.name, format!("Done differently here: {}.", key.remark)));
    let refused = REFUSED.iter().map(|key| (key.name, format!("Refused unless it asks for nothing: {}.", key.remark)));
    without.chain(instead).chain(refused)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("run_name: first", Some(Ok(())), &["without effect here: run_name"])]
    #[case("load_in_4bit: true", Some(Ok(())), &["done differently here: load_in_4bit (the base is not quantised)"])]
    #[case("load_in_4bit: false", Some(Ok(())), &[])]
    #[case("truncation_mode: keep_end", Some(Ok(())), &[])]
    #[case("f_divergence_type: reverse_kl", Some(Ok(())), &[])]
    #[case("neftune_noise_alpha: null", Some(Ok(())), &[])]
    #[case("adafactor: true", Some(Err("true would change the result: only AdamW is supported")), &[])]
    #[case("learning_rat: 1", None, &[])]
    fn keys_are_told_apart(#[case] yaml: &str, #[case] expected: Option<Result<(), &str>>, #[case] lines: &[&str]) {
        let document: serde_yaml_ng::Mapping = serde_yaml_ng::from_str(yaml).expect("YAML");
        let (key, value) = document.iter().next().expect("a key");
        let mut notes = Notes::default();
        let found = accept(key.as_str().expect("text"), value, &mut notes);
        assert_eq!(found, expected.map(|result| result.map_err(str::to_owned)));
        assert_eq!(notes.lines(), lines);
    }
}
