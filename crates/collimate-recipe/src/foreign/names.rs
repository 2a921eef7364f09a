//! The keys by name, sorted by whether leaving them out would change the result.

use super::Meaningful;

/// Keys that do not affect what a run computes: where it logs, how it loads, what it runs on. One string for each source:
/// transformers' `TrainingArguments`, TRL's `ModelConfig` and `DPOConfig`, and the alignment handbook.
pub(super) const WITHOUT_EFFECT: [&str; 3] = [
    "accelerator_config activation_checkpointing activation_checkpointing_kwargs auto_find_batch_size \
     average_tokens_across_devices batch_eval_metrics bf16_full_eval dataloader_in_order \
     dataloader_multiprocessing_context dataloader_num_workers dataloader_persistent_workers dataloader_pin_memory \
     dataloader_prefetch_factor ddp_backend ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters \
     ddp_static_graph ddp_timeout ddp_timeout_sec debug deepspeed disable_tqdm do_predict do_train \
     enable_jit_checkpoint eval_accumulation_steps eval_do_concat_batches eval_on_start eval_use_gather_object \
     fp16_backend fp16_full_eval fp16_opt_level fsdp fsdp_config fsdp_min_num_params \
     fsdp_transformer_layer_cls_to_wrap full_determinism gradient_checkpointing_kwargs \
     half_precision_backend hub_always_push hub_model_id hub_model_revision hub_private_repo hub_revision hub_strategy \
     hub_token include_for_metrics include_inputs_for_metrics include_num_input_tokens_seen include_tokens_per_second \
     jit_mode_eval label_names label_smoothing_factor length_column_name liger_kernel_config local_rank log_level \
     log_level_replica log_on_each_node logging_dir logging_nan_inf_filter mp_parameters no_cuda \
     overwrite_output_dir past_index prediction_loss_only project push_to_hub_model_id \
     push_to_hub_organization push_to_hub_revision push_to_hub_token ray_scope remove_unused_columns \
     restore_callback_states_from_checkpoint run_name save_on_each_node save_only_model save_safetensors \
     skip_memory_metrics split_batches tf32 torch_compile torch_compile_backend torch_compile_mode \
     torch_empty_cache_steps torchdynamo tpu_metrics_debug tpu_num_cores trackio_bucket_id trackio_space_id \
     trackio_static_space_id use_cache use_cpu use_ipex use_legacy_prediction_loop use_liger_kernel use_mps_device",
    "activation_offloading attn_implementation base_model_revision bnb_4bit_quant_storage \
     dataset_num_proc force_use_ref_model generate_during_eval \
     label_pad_token_id max_target_length lora_task_type model_adapter_name model_code_revision pad_token \
     pad_to_multiple_of padding_free padding_value precompute_ref_batch_size ref_adapter_name ref_model_init_kwargs \
     ref_model_mixup_alpha ref_model_sync_steps trust_remote_code use_flash_attention_2 \
     use_liger_loss use_logits_to_keep use_num_logits_to_keep use_unsloth",
    "benchmarks callbacks columns_to_keep dataset_kwargs dataset_text_field ignore_bias_buffers \
     preprocessing_num_workers wandb_entity wandb_log_unique_prompts wandb_project wandb_run_group",
];

const fn key(name: &'static str, remark: &'static str) -> Meaningful {
    Meaningful { name, neutral: &[], remark }
}

const fn key_unless(name: &'static str, neutral: &'static [&'static str], remark: &'static str) -> Meaningful {
    Meaningful { name, neutral, remark }
}

/// Keys whose purpose is served in another way, with the same result up to rounding or chance.
pub(super) const INSTEAD: &[Meaningful] = &[
    key("data_seed", "seed determines the order of the data"),
    key("eval_delay", "evaluation begins at the start"),
    key("ignore_data_skip", "a resumed run continues where it stopped"),
    key("parallelism_config", "a run uses one device"),
];

/// Keys without any counterpart here: the user has to decide.
pub(super) const REFUSED: &[Meaningful] = &[
    key("adafactor", "only AdamW is supported"),
    key("assistant_only_loss", "only the last turn of a conversation is scored"),
    key("auto_insert_empty_system_msg", "no system message is added"),
    key_unless("completion_only_loss", &["true"], "only responses are scored"),
    key("group_by_length", "batches are drawn by the seed, whatever their lengths, and computed without padding"),
    key("is_encoder_decoder", "only decoders are supported"),
    key_unless("ld_alpha", &["1", "1.0"], "length-desensitized log-probs are not supported"),
    key(
        "model_init_kwargs",
        "models are loaded without arguments: give model_revision, torch_dtype or compute_dtype as keys of their own",
    ),
    key("neftune_noise_alpha", "noise on embeddings is not supported"),
    key("optim_args", "AdamW is set by adam_beta1, adam_beta2, adam_epsilon and weight_decay"),
    key("optim_target_modules", "one optimizer trains everything that is trained"),
    key("packing", "a batch has per_device_train_batch_size prompts, which are computed together without padding"),
    key("reference_free", "choose an objective without a reference: simpo, cpo or orpo"),
    key("resume_from_checkpoint", "`--resume` continues the run in output_dir from its last checkpoint"),
    key("sync_ref_model", "the reference does not change during a run"),
    key("use_weighting", "WPO's weights are not supported"),
];

/// transformers' names for AdamW with moments in float32.
pub(super) const OPTIMIZERS: &[&str] = &[
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
pub(super) const SMALL_STATES: &[&str] =
    &["adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "adamw_torch_4bit", "adamw_torch_8bit"];
