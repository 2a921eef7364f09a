//! Recipes of other trainers.

use std::fs;

use collimate_objectives as _;
use rstest::rstest;
use serde_json::json;

use crate::*;

fn load(recipe: &str, overrides: &[(&str, &str)]) -> Result<ParsedRecipe, RecipeError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("r.yaml");
    fs::write(&path, recipe).expect("a file");
    let overrides: Vec<_> = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Recipe::parse(Some(&path), &overrides)
}

fn parse(recipe: &str) -> Recipe {
    load(recipe, &[]).expect("a recipe").recipe
}

/// The resolved value of a key, as JSON.
fn value(recipe: &Recipe, key: &str) -> serde_json::Value {
    serde_json::to_value(recipe).expect("JSON")[key].clone()
}

/// The error's text without the folder.
fn error(recipe: &str) -> String {
    let message = load(recipe, &[]).expect_err("a broken recipe").to_string();
    message.split_once("r.yaml:").map(|(_, rest)| rest.to_owned()).unwrap_or(message)
}

#[rstest]
#[case("loss_type: NCA\nbeta: 0.01\ntemperature_alpha: 1e-4\n", "nca", json!({"beta": 0.01, "alpha": 1e-4}))]
#[case("loss_type: InfoNCA\n", "infonca", json!({}))]
#[case("loss_type: DPO\n", "dpo", json!({}))]
#[case("loss_type: [sigmoid]\nlabel_smoothing: 0.1\n", "dpo", json!({"label_smoothing": 0.1}))]
#[case("loss_type: biasedNCA\n", "bco_pair", json!({}))]
#[case("loss_type: sppo_hard\n", "sppo_hard", json!({"beta": 0.1}))]
#[case("loss_type: robust\nbeta: 0.2\n", "robust", json!({"beta": 0.2, "label_smoothing": 0.0}))]
#[case("loss_type: exo_pair\n", "exo_pair", json!({}))]
#[case("loss_type: kto\ndesirable_weight: 2\n", "kto", json!({"desirable_weight": 2.0}))]
#[case("loss_type: apo_zero\nlabel_smoothing: 0.0\nsimpo_gamma: 0.5\n", "apo_zero", json!({}))]
#[case("loss_type: robust\nlabel_smoothing: 0.0\n", "robust", json!({"label_smoothing": 0.0}))]
#[case("loss_type: simpo\nsimpo_gamma: 0.5\ncpo_alpha: 0\n", "simpo", json!({"gamma": 0.5, "beta": 0.1}))]
#[case("loss_type: simpo\n", "combine",
       json!({"terms": [{"name": "simpo", "beta": 0.1, "gamma": 0.5}, {"name": "sft", "weight": 1.0}]}))]
#[case("loss_type: simpo\nbeta: 10\ngamma_beta_ratio: 0.5\n", "simpo", json!({"beta": 10.0, "gamma": 5.0}))]
#[case("beta: 2.0\ngamma: 1.6\n", "simpo", json!({"beta": 2.0, "gamma": 1.6}))]
#[case("gamma_beta_ratio: 0.5\nloss_type: sigmoid\n", "simpo", json!({"gamma": 1.0}))]
#[case("gamma_beta_ratio: 0.25\nbeta: 2\nsft_weight: 0.5\n", "combine",
       json!({"terms": [{"name": "simpo", "beta": 2.0, "gamma": 0.5}, {"name": "sft", "weight": 0.5}]}))]
#[case("loss_type: cpo\ncpo_alpha: 0.5\n", "cpo", json!({"sft_weight": 0.5}))]
#[case("loss_type: discopop\ndiscopop_tau: 0.1\n", "discopop", json!({"tau": 0.1}))]
#[case("loss_type: sigmoid\nrpo_alpha: 1\nbeta: 0.2\n", "combine",
       json!({"terms": [{"name": "dpo", "beta": 0.2}, {"name": "sft", "weight": 1.0}]}))]
#[case("loss_type: [sigmoid, bco_pair, sft]\nloss_weights: [0.8, 0.2, 1]\nbeta: 0.3\n", "combine",
       json!({"terms": [{"name": "dpo", "weight": 0.8, "beta": 0.3}, {"name": "bco_pair", "weight": 0.2, "beta": 0.3},
                        {"name": "sft", "weight": 1.0}]}))]
fn losses_of_other_trainers(#[case] recipe: &str, #[case] name: &str, #[case] params: serde_json::Value) {
    let objective = parse(recipe).objective;
    assert_eq!((objective.name.as_str(), serde_json::Value::Object(objective.params.clone())), (name, params));
    collimate_objective::registry::build(&objective.name, &objective.params).expect("an objective");
}

#[test]
fn values_of_other_trainers_have_the_same_meaning_here() {
    let recipe = parse(
        "evaluation_strategy: epoch\nsave_strategy: 'no'\nlogging_strategy: epoch\nlogging_first_step: true\n\
         bf16: true\noptim: paged_adamw_32bit\nlr_scheduler_type: constant_with_warmup\nmax_completion_length: 256\n\
         lora_r: 16\nlora_alpha: 8\nuse_rslora: true\nmax_seq_length: 2048\nsave_total_limit: null\n",
    );
    let epochs = StepCounts { steps_per_epoch: 4, total_steps: 8, warmup_steps: 0 };
    let due = |at: &dyn Fn(usize) -> bool| (1..=8).filter(|step| at(*step)).collect::<Vec<_>>();
    assert_eq!(due(&|step| recipe.evaluates_after(step, &epochs)), [4, 8]);
    assert_eq!(due(&|step| recipe.logs_after(step, &epochs)), [1, 4, 8]);
    assert!(due(&|step| recipe.saves_after(step, &epochs)).is_empty());
    assert_eq!(recipe.torch_dtype.as_deref(), Some("float32"));
    assert_eq!(recipe.lr_scheduler_type, ScheduleKind::ConstantWithWarmup);
    assert_eq!((recipe.max_completion_length, recipe.max_length), (Some(256), Some(2048)));
    // alpha / √r is α·√r / r.
    assert_eq!(recipe.lora_alpha, 8.0 * 4.0);
}

#[test]
fn intervals_count_steps_or_passes() {
    let counts = StepCounts { steps_per_epoch: 3, total_steps: 6, warmup_steps: 0 };
    let due = |text: &str| (1..=6).filter(|step| parse(text).saves_after(*step, &counts)).collect::<Vec<_>>();
    assert_eq!(due("save_steps: 2\n"), [2, 4, 6]);
    assert_eq!(due("save_steps: 2\nsave_strategy: epoch\n"), [3, 6]);
    assert!(due("save_steps: 2\nsave_strategy: no\n").is_empty());
    assert!(due("save_steps: 0\n").is_empty());
}

#[test]
fn keys_without_effect_are_listed_once() {
    let text = "report_to: [wandb]\nhub_model_id: x\nload_in_4bit: true\nload_in_8bit: false\nlog_level: info\n\
                optim: paged_adamw_8bit\n";
    let notes = load(text, &[("report_to", "none")]).expect("a recipe").notes();
    assert_eq!(
        notes,
        [
            "TRL 1.16's defaults for what the recipe leaves out, since it has TRL's key `report_to`: objective dpo, \
             torch_dtype float32, max_prompt_length null, skip_long_prompts true, learning_rate 1.0e-6, lr_scheduler_type \
             linear, warmup_ratio 0.0, num_train_epochs 3.0, per_device_train_batch_size 8, per_device_eval_batch_size 8, \
             decay_norms false, router_aux_loss_coef model, lora_alpha 32.0, lora_target_modules peft-default, \
             logging_steps 10, eval_strategy no, save_steps 500",
            "without effect here: report_to, hub_model_id, log_level",
            "done differently here: load_in_4bit (the base is not quantised), optim (AdamW's moments are in float32)",
        ]
    );
    assert!(load("seed: 1\n", &[]).expect("a recipe").notes().is_empty());
}

#[rstest]
#[case("seed: 1\nreport_two: x\n", "2:1: unknown key \"report_two\"; did you mean \"report_to\"?")]
#[case("adafactor: true\n", "1:1: key \"adafactor\": true would change the result: only AdamW is supported")]
#[case(
    "optim: adamw_toch\n",
    "1:1: key \"optim\": \"adamw_toch\" is not a form of AdamW; did you mean \"adamw_torch\"?"
)]
#[case("optim: sgd\n", "1:1: key \"optim\": only AdamW is supported")]
#[case("optim: rmsprop\n", "1:1: key \"optim\": only AdamW is supported, not \"rmsprop\": write `optim: adamw_torch`")]
#[case("base_model: x\n", "1:1: key \"base_model\": is axolotl's; here it is model_name_or_path")]
#[case("cutoff_len: 8\n", "1:1: key \"cutoff_len\": is LLaMA-Factory's; here it is max_length")]
#[case("beta: 1\ngamma_beta_ratio: 1\nloss_type: hinge\n", "3:1: key \"loss_type\": SimPO's hinge loss")]
#[case("truncation_mode: keep_end\n", "1:1: key \"truncation_mode\": keep_end would cut each response's prompt")]
#[case("truncation_mode: keep_start\nmax_prompt_length: 8\n", "1:1: key \"truncation_mode\": keep_start would keep")]
#[case("tokenizer_name_or_path: x\n", "1:1: key \"tokenizer_name_or_path\": the tokenizer in the model's folder")]
#[case("completion_only_loss: false\n", "1:1: key \"completion_only_loss\": false would change the result")]
#[case("load_best_model_at_end: true\n", "1:1: key \"load_best_model_at_end\": true would change the result")]
#[case("packing: true\n", "1:1: key \"packing\": true would change the result")]
#[case("group_by_length: true\n", "1:1: key \"group_by_length\": true would change the result")]
#[case("train_sampling_strategy: group_by_length\n", "1:1: key \"train_sampling_strategy\": group_by_length would")]
#[case("model_init_kwargs: {revision: v1}\n", "1:1: key \"model_init_kwargs\": a table of revision would change")]
#[case("resume_from_checkpoint: true\n", "1:1: key \"resume_from_checkpoint\": true would change the result")]
#[case("datasets: [{path: a, data_files: b}]\n", "1:1: key \"datasets\": expected a list of tables with `path`")]
#[case(
    "lr_scheduler_type: cosine_with_min_lr\n",
    "recipe: key \"lr_scheduler_kwargs\": cosine_with_min_lr needs one of"
)]
#[case("loss_type: [ipo, sft]\nloss_weights: [1]\n", "2:1: key \"loss_weights\": 1 weights for the 2 objectives")]
#[case("eval_fraction: 1\n", "1:1: key \"eval_fraction\": must be in [0, 1) or a whole number above 1, is 1")]
#[case("data: a.jsonl\ndataset_name: b.jsonl\n", "2:1: key \"dataset_name\": the recipe names its data twice")]
#[case("eval_data: a.jsonl\neval_fraction: 0.1\n", "2:1: key \"eval_fraction\": nothing is held out where eval_data")]
fn unsupported_values_are_refused(#[case] recipe: &str, #[case] expected: &str) {
    let found = error(recipe);
    assert!(found.starts_with(expected), "{found}");
}

#[test]
fn no_key_is_known_in_two_ways() {
    let mut names: Vec<&str> = Recipe::other_keys().into_iter().map(|(name, _)| name).collect();
    names.extend(Recipe::KEYS.iter().map(|key| key.name));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
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
