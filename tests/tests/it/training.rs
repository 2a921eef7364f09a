//! The files that short runs of `train` write.

use collimate_train::load_recipe;
use rstest::rstest;
use serde_json::Value;

use crate::cli::groups;
use crate::harness::{Folder, succeed};
use crate::small_model::model_arg;

/// The files of a short run.
fn short_run(folder: &Folder, name: &str, extra: &[&str]) -> String {
    let (output, data) = (folder.arg(name), groups(folder, 4));
    let model = model_arg();
    let mut args = vec!["train", "--model", model, "--data", &data, "--output", &output];
    args.extend(["--set", "max_steps=4", "--set", "per_device_train_batch_size=2", "--set", "learning_rate=1e-3"]);
    args.extend(["--set", "warmup_ratio=0"]);
    args.extend(extra);
    succeed(&args);
    output
}

#[test]
fn a_run_leaves_metrics_recipe_model_card_and_report() {
    let folder = Folder::new();
    let run = short_run(&folder, "run", &["--set", "use_peft=true"]);
    let rows = folder.rows("run/metrics.jsonl");
    assert_eq!(rows.len(), 4);
    // 2 ln 2 for NCA at the start, whatever the rewards.
    let loss = |row: &Value| row["loss"].as_f64().expect("a loss");
    assert!((loss(&rows[0]) - 2.0 * std::f64::consts::LN_2).abs() < 1e-6);
    assert!(loss(&rows[3]) < loss(&rows[0]));
    for name in ["grad_norm", "learning_rate", "rewards/chosen", "rewards/rank_2", "logps/rejected", "num_tokens"] {
        assert!(rows[0][name].is_number(), "{name} in {}", rows[0]);
    }
    for name in ["recipe.yaml", "README.md", "report.html", "adapter_model.safetensors", "adapter_config.json"] {
        assert!(folder.path("run").join(name).is_file(), "{name}");
    }
    assert!(succeed(&["report", &run]).out.trim().ends_with("report.html"));
    // The recipe it wrote parses, and its adapter loads.
    load_recipe(Some(&folder.path("run/recipe.yaml")), &[]).expect("a recipe");
    let (data, output) = (groups(&folder, 1), folder.arg("s.jsonl"));
    succeed(&["score", "--model", model_arg(), "--adapter", &run, "--data", &data, "--output", &output]);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let folder = Folder::new();
    short_run(&folder, "a", &[]);
    short_run(&folder, "b", &[]);
    short_run(&folder, "c", &["--set", "objective.beta=0.2"]);
    let figures = |name: &str| -> Vec<(Value, Value)> {
        folder.rows(name).iter().map(|row| (row["loss"].clone(), row["grad_norm"].clone())).collect()
    };
    assert_eq!(figures("a/metrics.jsonl"), figures("b/metrics.jsonl"));
    assert_ne!(figures("a/metrics.jsonl"), figures("c/metrics.jsonl"));
}

#[rstest]
#[case(&["--objective", "infonca", "--set", "beta=0.2"], "infonca", 3f64.ln())]
#[case(&["--objective", "dpo"], "dpo", std::f64::consts::LN_2)]
fn the_objective_named_is_the_one_trained(#[case] extra: &[&str], #[case] name: &str, #[case] first_loss: f64) {
    let folder = Folder::new();
    short_run(&folder, "run", extra);
    let loss = folder.rows("run/metrics.jsonl")[0]["loss"].as_f64().expect("a loss");
    assert!((loss - first_loss).abs() < 1e-6, "{loss}");
    let recipe = load_recipe(Some(&folder.path("run/recipe.yaml")), &[]).expect("a recipe");
    assert_eq!(recipe.objective.name, name);
}
