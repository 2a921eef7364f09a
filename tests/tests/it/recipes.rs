//! Recipes of other trainers, several data files, and the schema of recipes.

mod mixing;
mod schema;

use collimate_backend::ComputeDtype;
use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed};
use crate::small_model::model_arg;

/// NCA's published recipe, except for the model, the data and the folder.
const PUBLISHED: &str = r#"# Model arguments
model_name_or_path: MODEL
torch_dtype: null
use_flash_attention_2: true

# LoRA arguments
use_peft: true
load_in_4bit: true
lora_r: 16
lora_alpha: 16
lora_dropout: 0.05
lora_target_modules: [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]

# Data training arguments
chat_template: "{% for message in messages %}{{ message['content'] }}{% endfor %}"
dataset_mixer:
  rewards: 1.0
dataset_splits:
- train
- test
preprocessing_num_workers: 12

# Trainer config
bf16: true
beta: 0.01
loss_type: NCA
temperature_alpha: 1e-4
do_eval: true
evaluation_strategy: steps
eval_steps: 500
gradient_accumulation_steps: 2
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: false
hub_model_id: published-nca
learning_rate: 5.0e-6
log_level: info
logging_first_step: true
logging_steps: 10
lr_scheduler_type: cosine
max_length: 1024
max_prompt_length: 512
num_train_epochs: 1
optim: paged_adamw_32bit
output_dir: OUTPUT
per_device_train_batch_size: 1
per_device_eval_batch_size: 4
push_to_hub: false
remove_unused_columns: false
report_to:
- tensorboard
save_strategy: "steps"
save_steps: 100
save_total_limit: 20
seed: 42
warmup_ratio: 0.1
"#;

/// The recipe with model and folder filled in.
fn published(folder: &Folder) -> String {
    PUBLISHED.replace("MODEL", model_arg()).replace("OUTPUT", &folder.arg("run"))
}

/// Groups of four scored responses in the published layout, best first.
fn ranked_set(name: &str, count: usize) -> String {
    let row = |i: usize| {
        let mut row = json!({"prompt": format!("{name}: what is 7 times {i}?")});
        for (k, answer) in [7 * i, 7 * i + 1, 6 * i, i].iter().enumerate() {
            row[format!("A{k}")] = json!(answer.to_string());
            row[format!("score_A{k}")] = json!(9.0 - 2.0 * k as f64);
        }
        row.to_string() + "\n"
    };
    (2..2 + count).map(row).collect()
}

/// The resolved recipe of a run as JSON.
fn resolved(folder: &Folder, run: &str) -> Value {
    let keys: Value = serde_json::from_str(&succeed(&["recipe-keys", "--json"]).out).expect("JSON");
    let text = folder.read(&format!("{run}/recipe.yaml"));
    assert!(keys.as_array().expect("keys").iter().all(|key| text.contains(key["name"].as_str().expect("a name"))));
    schema::yaml(&text)
}

#[test]
fn the_published_recipe_runs_as_it_is() {
    let folder = Folder::new();
    folder.write("rewards/train.jsonl", ranked_set("train", 8));
    folder.write("rewards/test.jsonl", ranked_set("test", 3));
    let recipe = folder.write("nca.yaml", published(&folder));
    let err = succeed(&["train", &recipe]).err;
    let said: Vec<&str> = err.lines().filter(|line| line.contains("here: ")).collect();
    // bf16 is heeded where the processor multiplies in it.
    let in_float32 = match collimate_backend::multiplies_in("flex", ComputeDtype::Bfloat16) {
        Ok(true) => "",
        _ => ", bf16 (flex computes in float32; what is saved is bfloat16)",
    };
    assert_eq!(
        said,
        [
            "without effect here: use_flash_attention_2, preprocessing_num_workers, gradient_checkpointing_kwargs, \
             hub_model_id, log_level, remove_unused_columns"
                .to_owned(),
            format!(
                "done differently here: disable_dropout (lora_dropout is 0, as TRL's trainer makes it){in_float32}"
            ),
        ]
    );
    let rows = folder.rows("run/metrics.jsonl");
    // Four steps of two prompts: the first and the last are recorded, and evaluations at the start and the end.
    let steps =
        |key: &str| rows.iter().filter(|row| row.get(key).is_some()).map(|row| row["step"].clone()).collect::<Vec<_>>();
    assert_eq!(steps("loss"), [1, 4]);
    assert_eq!(steps("eval_loss"), [0, 4]);
    // At zero log-ratios NCA's loss is 2 ln 2, whatever the rewards.
    let first = rows.iter().find_map(|row| row.get("loss")).and_then(Value::as_f64).expect("a loss");
    assert!((first - 2.0 * std::f64::consts::LN_2).abs() < 1e-3, "{first}");
    let resolved = resolved(&folder, "run");
    assert_eq!(resolved["tensorboard"], true);
    assert!(folder.path("run/tensorboard").is_dir());
    assert_eq!(resolved["objective"], json!({"name": "nca", "beta": 0.01, "alpha": 1e-4}));
    assert_eq!(resolved["data"], folder.arg("rewards/train.jsonl"));
    assert_eq!(resolved["eval_data"], folder.arg("rewards/test.jsonl"));
    assert_eq!(resolved["torch_dtype"], "bfloat16");
    assert_eq!(resolved["lora_target_modules"].as_array().map(Vec::len), Some(7));
}

#[test]
fn a_loss_that_does_not_exist_is_refused_at_its_place() {
    let folder = Folder::new();
    let data = folder.write("d.jsonl", ranked_set("d", 2));
    let recipe = folder.write("r.yaml", "beta: 0.1\nloss_type: nca_pairs\n");
    let outcome =
        collimate(&["train", &recipe, "--model", model_arg(), "--data", &data, "--output", &folder.arg("run")]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("nca_pair") && outcome.err.contains("r.yaml:2:1"), "{}", outcome.err);
}

#[test]
fn a_limit_on_completions_cuts_responses_alone() {
    let folder = Folder::new();
    let data = folder.write("d.jsonl", ranked_set("d", 4));
    let cut = |limit: &str, run: &str| {
        let output = folder.arg(run);
        let args = ["train", "--model", model_arg(), "--data", &data, "--output", &output, "--set", "max_steps=1"];
        succeed(&[&args[..], &["--set", &format!("max_completion_length={limit}")]].concat()).err
    };
    assert!(cut("1", "short").contains("16 response tokens; cut: 0 prompts, 16 responses"));
    assert!(cut("64", "long").contains("cut: 0 prompts, 0 responses"));
}

#[test]
fn the_quickstart_trains_by_the_recipe_in_configs() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/quickstart.yaml");
    let own = collimate_quickstart::pipeline::recipe(&[]).expect("the quickstart's recipe");
    assert_eq!(collimate_train::load_recipe(Some(&file), &[]).expect("a recipe"), own);
}
