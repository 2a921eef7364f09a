//! Recipes of TRL's: whose defaults they have, and the forms of TRL 1.16.

use collimate_objectives as _;
use rstest::rstest;
use serde_json::json;

use crate::trl_tests::{load, parse};
use crate::*;

/// The resolved value of a key, as JSON.
fn value(recipe: &Recipe, key: &str) -> serde_json::Value {
    serde_json::to_value(recipe).expect("JSON")[key].clone()
}

/// The error's text without the folder.
fn error(recipe: &str) -> String {
    let message = load(recipe, &[]).expect_err("a broken recipe").to_string();
    message.split_once("r.yaml:").map(|(_, rest)| rest.to_owned()).unwrap_or(message)
}

/// The fields of `DPOConfig`, `ModelConfig`, `ScriptArguments` and `DatasetMixtureConfig` of TRL 1.16 with transformers 5.23:
/// all keys of `trl dpo`.
const TRL_DPO: &str = "\
accelerator_config activation_checkpointing activation_checkpointing_kwargs activation_offloading adam_beta1 \
adam_beta2 adam_epsilon attn_implementation auto_find_batch_size average_tokens_across_devices \
batch_eval_metrics beta bf16 bf16_full_eval bnb_4bit_quant_storage bnb_4bit_quant_type data_seed \
dataloader_drop_last dataloader_in_order dataloader_multiprocessing_context dataloader_num_workers \
dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor dataset_config dataset_name \
dataset_num_proc dataset_streaming dataset_test_split dataset_train_split datasets ddp_backend \
ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_static_graph ddp_timeout debug deepspeed \
disable_dropout disable_tqdm discopop_tau do_eval do_predict do_train dtype enable_jit_checkpoint \
eval_accumulation_steps eval_delay eval_do_concat_batches eval_on_start eval_steps eval_strategy \
eval_use_gather_object f_alpha_divergence_coef f_divergence_type fp16 fp16_full_eval fsdp fsdp_config \
full_determinism gradient_accumulation_steps gradient_checkpointing gradient_checkpointing_kwargs \
greater_is_better hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy hub_token \
ignore_bias_buffers ignore_data_skip include_for_metrics include_num_input_tokens_seen label_names \
label_smoothing label_smoothing_factor ld_alpha learning_rate length_column_name liger_kernel_config \
load_best_model_at_end load_in_4bit load_in_8bit local_rank log_level log_level_replica log_on_each_node \
logging_first_step logging_nan_inf_filter logging_steps logging_strategy lora_alpha lora_dropout \
lora_modules_to_save lora_r lora_target_modules lora_target_parameters lora_task_type loss_type loss_weights \
lr_scheduler_kwargs lr_scheduler_type max_grad_norm max_length max_steps metric_for_best_model model_init_kwargs \
model_name_or_path model_revision neftune_noise_alpha num_train_epochs optim optim_args optim_target_modules \
output_dir pad_to_multiple_of pad_token padding_free parallelism_config per_device_eval_batch_size \
per_device_train_batch_size precompute_ref_batch_size precompute_ref_log_probs prediction_loss_only project \
push_to_hub ref_model_mixup_alpha ref_model_sync_steps remove_unused_columns report_to \
restore_callback_states_from_checkpoint resume_from_checkpoint router_aux_loss_coef run_name save_on_each_node \
save_only_model save_steps save_strategy save_total_limit seed skip_memory_metrics streaming sync_ref_model \
test_split_size tf32 torch_compile torch_compile_backend torch_compile_mode torch_empty_cache_steps \
trackio_bucket_id trackio_space_id trackio_static_space_id train_sampling_strategy truncation_mode \
trust_remote_code use_bnb_nested_quant use_cache use_cpu use_dora use_liger_kernel use_peft use_rslora \
use_weighting warmup_steps weight_decay";

#[test]
fn every_key_of_trl_dpo_is_known() {
    let others = Recipe::other_keys();
    let is_known =
        |key: &&str| Recipe::KEYS.iter().any(|known| known.name == *key) || others.iter().any(|(name, _)| name == key);
    let unknown: Vec<&str> = TRL_DPO.split_whitespace().filter(|key| !is_known(key)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn a_recipe_of_trls_has_trls_defaults() {
    // Case 04: a recipe in the alignment handbook's manner, which names no loss.
    let text = "model_name_or_path: model\ndataset_name: data.jsonl\nbeta: 0.01\nuse_peft: true\noutput_dir: out\n";
    let recipe = parse(text);
    let counts = recipe.step_counts(10);
    assert_eq!((counts.steps_per_epoch, counts.total_steps, counts.warmup_steps), (2, 6, 0));
    let schedule = recipe.schedule(&counts);
    assert_eq!((schedule.lr(0), schedule.lr(3)), (1e-6, 0.5e-6));
    for (key, expected) in [
        ("objective", json!({"name": "dpo", "beta": 0.01})),
        ("num_train_epochs", json!(3.0)),
        ("per_device_train_batch_size", json!(8)),
        ("max_length", json!(1024)),
        ("max_prompt_length", json!(null)),
        ("lora_r", json!(16)),
        ("lora_alpha", json!(32.0)),
        ("lora_target_modules", json!("peft-default")),
        // TRL turns off the adapter's dropout, of 0.05, too.
        ("lora_dropout", json!(0.0)),
        ("torch_dtype", json!("float32")),
        ("logging_steps", json!(10)),
        ("save_steps", json!(500)),
        ("eval_strategy", json!("no")),
    ] {
        assert_eq!(value(&recipe, key), expected, "{key}");
    }
    // What it says stays as it is, and a resolved recipe is one of ours.
    assert_eq!(parse("dataset_name: d\nlearning_rate: 5e-7\nlora_alpha: 128\n").lora_alpha, 128.0);
    assert_eq!(parse(&recipe.resolved_yaml().expect("YAML")), recipe);
}

#[rstest]
#[case("learning_rate: 1e-5\n", false)]
#[case("objective: nca\nreport_to: none\n", false)]
#[case("objective: nca\nbeta: 0.1\n", false)]
#[case("run_name: first\n", true)]
#[case("dtype: float32\n", true)]
fn a_key_that_only_trl_has_tells(#[case] text: &str, #[case] is_trl: bool) {
    let parsed = load(text, &[("beta", "0.2")]).expect("a recipe");
    assert_eq!(parsed.recipe.num_train_epochs, if is_trl { 3.0 } else { 1.0 });
    assert_eq!(parsed.notes().iter().any(|note| note.starts_with("TRL 1.16's defaults")), is_trl);
}

#[test]
fn a_loss_that_is_named_is_not_said_to_be_filled_in() {
    let said = |text: &str| load(text, &[]).expect("a recipe").notes()[0].contains("objective dpo");
    assert!(said("dataset_name: d\n") && !said("dataset_name: d\nloss_type: sigmoid\n"));
}

#[rstest]
#[case(TrlDefaults::ByFile, 1.0)]
#[case(TrlDefaults::Never, 1.0)]
#[case(TrlDefaults::Always, 3.0)]
#[case(TrlDefaults::ByFileOrArguments(vec!["beta".to_owned()]), 3.0)]
#[case(TrlDefaults::ByFileOrArguments(vec!["seed".to_owned()]), 1.0)]
fn arguments_tell_if_they_are_written_as_trls(#[case] defaults: TrlDefaults, #[case] epochs: f64) {
    let arguments = [("beta", "0.2"), ("seed", "1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let recipe = Recipe::parse_with(None, &arguments, &defaults).expect("a recipe").recipe;
    assert_eq!((recipe.num_train_epochs, recipe.objective.number("beta")), (epochs, Some(0.2)));
}

#[test]
fn another_objective_keeps_the_flat_keys_that_it_has() {
    let other = |name: &str| load("beta: 0.01\nrpo_alpha: 0.5\ndataset_name: d\n", &[("objective", name)]);
    let terms = |name: &str| other(name).expect("a recipe").recipe.objective.params["terms"].clone();
    let supervised = json!({"name": "sft", "weight": 0.5});
    assert_eq!(terms("nca"), json!([{"name": "nca", "beta": 0.01}, supervised]));
    assert_eq!(terms("dpo"), json!([{"name": "dpo", "beta": 0.01}, supervised]));
    let notes = load("beta: 0.01\ndataset_name: d\n", &[("objective", "sft")]).expect("a recipe").notes();
    assert!(notes.iter().any(|note| note == "without effect here: beta"), "{notes:?}");
}

/// Case 15: forms of TRL 1.16 and of published recipes.
#[rstest]
#[case("warmup_steps: 0.1\n", "warmup_steps", json!(0.1))]
#[case("max_length: 256\n", "max_prompt_length", json!(null))]
#[case("max_length: null\n", "max_length", json!(null))]
#[case("eval_steps: 0.25\n", "eval_steps", json!(0.25))]
#[case("eval_strategy: steps\nlogging_steps: 7\n", "eval_steps", json!(7))]
#[case("eval_strategy: steps\neval_steps: null\n", "eval_steps", json!(10))]
#[case("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr_rate: 0.1}\n",
       "lr_scheduler_kwargs", json!({"min_lr_rate": 0.1}))]
#[case("lr_scheduler_type: inverse_sqrt\n", "lr_scheduler_type", json!("inverse_sqrt"))]
#[case("hub_model_revision: v1\n", "objective", json!({"name": "dpo"}))]
#[case("lora_target_modules: '.*(q_proj|v_proj)$'\n", "lora_target_modules", json!(".*(q_proj|v_proj)$"))]
#[case("train_sampling_strategy: sequential\n", "shuffle", json!(false))]
#[case("dataset_streaming: true\n", "shuffle", json!(false))]
#[case("dataloader_drop_last: true\n", "dataloader_drop_last", json!(true))]
#[case("router_aux_loss_coef: 0.1\n", "router_aux_loss_coef", json!(0.1))]
#[case("disable_dropout: false\nuse_peft: true\n", "lora_dropout", json!(0.05))]
#[case("test_split_size: 0.1\n", "eval_fraction", json!(0.1))]
#[case("test_split_size: 2000\n", "eval_fraction", json!(2000.0))]
#[case("save_steps: 0.5\n", "save_steps", json!(0.5))]
fn forms_of_trl_are_read(#[case] text: &str, #[case] key: &str, #[case] expected: serde_json::Value) {
    assert_eq!(value(&parse(&format!("loss_type: sigmoid\ndataset_name: d\n{text}")), key), expected);
}

#[test]
fn max_length_alone_leaves_room_for_a_response() {
    assert_eq!(parse("max_length: 256\n").max_prompt_length, Some(128));
    assert_eq!(parse("max_length: 600\n").max_prompt_length, Some(512));
    let refused = error("max_length: 256\nmax_prompt_length: 256\n");
    assert!(refused.starts_with("1:1: key \"max_length\": must leave room"), "{refused}");
}
