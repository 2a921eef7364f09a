//! Recipes of other trainers.

use std::fs;

use collimate_objectives as _;
use rstest::rstest;
use serde_json::json;

use crate::*;

pub(crate) fn load(recipe: &str, overrides: &[(&str, &str)]) -> Result<ParsedRecipe, RecipeError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("r.yaml");
    fs::write(&path, recipe).expect("a file");
    let overrides: Vec<_> = overrides.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Recipe::parse(Some(&path), &overrides)
}

pub(crate) fn parse(recipe: &str) -> Recipe {
    load(recipe, &[]).expect("a recipe").recipe
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
#[case("loss_type: [sigmoid]\nlabel_smoothing: 0.1\n", "dpo", json!({}))]
#[case("loss_type: biasedNCA\n", "bco_pair", json!({}))]
#[case("loss_type: aot_pair\n", "aot", json!({}))]
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
#[case("loss_type: ipo\nf_divergence_type: FDivergenceType.JS_DIVERGENCE\nbeta: 0.3\n", "ipo",
       json!({"f_divergence_type": "js_divergence", "beta": 0.3}))]
#[case("f_divergence_type: alpha_divergence\nf_alpha_divergence_coef: 0.25\nbeta: 0.3\n", "dpo",
       json!({"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.25, "beta": 0.3}))]
#[case("loss_type: apo_zero\nf_divergence_type: reverse_kl\nf_alpha_divergence_coef: 0.5\n", "apo_zero", json!({}))]
#[case("loss_type: sigmoid_norm\n", "dpo_norm", json!({"beta": 0.1}))]
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
    let due = |steps: DueSteps| (1..=8).filter(|step| steps.contains(*step)).collect::<Vec<_>>();
    assert_eq!(due(recipe.evaluations(&epochs)), [4, 8]);
    assert_eq!(due(recipe.logged_steps(&epochs)), [1, 4, 8]);
    assert!(due(recipe.checkpoints(&epochs)).is_empty());
    assert_eq!(recipe.torch_dtype.as_deref(), Some("float32"));
    assert_eq!(recipe.lr_scheduler_type, ScheduleKind::ConstantWithWarmup);
    assert_eq!((recipe.max_completion_length, recipe.max_length), (Some(256), Some(2048)));
    // alpha / √r is α·√r / r.
    assert_eq!(recipe.lora_alpha, 8.0 * 4.0);
}

#[test]
fn intervals_count_steps_or_passes() {
    let counts = StepCounts { steps_per_epoch: 3, total_steps: 6, warmup_steps: 0 };
    let due = |text: &str| (1..=6).filter(|step| parse(text).checkpoints(&counts).contains(*step)).collect::<Vec<_>>();
    assert_eq!(due("save_steps: 2\n"), [2, 4, 6]);
    assert_eq!(due("save_steps: 2\nsave_strategy: epoch\n"), [3, 6]);
    assert!(due("save_steps: 2\nsave_strategy: no\n").is_empty());
    assert!(due("save_steps: 0\n").is_empty());
}

#[test]
fn keys_without_effect_are_listed_once() {
    let text = "report_to: [comet_ml]\nhub_model_id: x\nload_in_4bit: true\nload_in_8bit: false\nlog_level: info\n\
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
            "without effect here: hub_model_id, log_level",
            "done differently here: report_to (nothing goes to comet_ml; metrics.jsonl has every figure), optim (AdamW's moments are in float32)",
        ]
    );
    assert!(load("seed: 1\n", &[]).expect("a recipe").notes().is_empty());
}

#[test]
fn trackers_are_those_of_report_to() {
    let recipe = parse("report_to: [wandb, tensorboard, trackio]\n");
    assert!(recipe.tensorboard && recipe.trackers.names() == ["wandb", "trackio"]);
    assert_eq!(parse("trackers: mlflow\n").trackers.names(), ["mlflow"]);
    assert!(parse("report_to: none\n").trackers.names().is_empty());
    let found = error("trackers: comet\n");
    assert!(found.starts_with("1:1: key \"trackers\": expected wandb, mlflow or trackio"), "{found}");
}

#[test]
fn an_upload_is_refused_with_the_command_that_does_it() {
    let found = error("output_dir: runs/a\nhub_model_id: org/a\npush_to_hub: true\n");
    let expected = "3:1: key \"push_to_hub\": nothing is uploaded from here: set it to false, and when the run is done type \
                    `hf upload org/a runs/a --exclude 'checkpoint-*'`";
    assert_eq!(found, expected);
    assert!(load("push_to_hub: false\nhub_model_id: org/a\n", &[]).is_ok());
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
#[case("load_best_model_at_end: true\n", "1:1: key \"load_best_model_at_end\": needs held-out data")]
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
#[case("loss_type: [ipo, sft]\nloss_weights: [1]\n", "2:1: key \"loss_weights\": 1 weight for the 2 objectives")]
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
