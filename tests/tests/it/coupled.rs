//! Objectives that depend on a whole optimizer step.

use collimate_oracle::tolerances::{COURSE, assert_relative};
use collimate_report::read_metrics;
use rstest::rstest;
use serde_json::json;

use crate::harness::{Folder, succeed, train};
use crate::small_model::model_arg;

/// Twelve distinct groups of three responses.
fn groups(folder: &Folder) -> String {
    let row = |i: usize| {
        let response =
            |k: usize| json!({"content": format!("{} ", i * (k + 3)).repeat(1 + (i + k) % 4).trim(), "reward": k});
        json!({"prompt": format!("What is {i}?"), "responses": [response(0), response(1), response(2)]}).to_string()
            + "\n"
    };
    folder.write("groups.jsonl", (5..17).map(row).collect::<String>())
}

#[rstest]
fn accumulated_batches_are_one_step_to_a_coupled_objective(#[values("kto", "aot", "aot_unpaired")] name: &str) {
    let folder = Folder::new();
    let data = groups(&folder);
    let objective = format!("objective={name}");
    let rows = |run: &str, sizes: [&str; 2]| {
        let output = folder.arg(run);
        let settings = [&objective, sizes[0], sizes[1], "max_steps=6", "learning_rate=3e-3", "eval_fraction=0.2"];
        let settings = [&settings[..], &["warmup_ratio=0"]].concat();
        succeed(&train(model_arg(), &data, &output, &settings));
        read_metrics(&folder.path(run).join("metrics.jsonl")).expect("metrics")
    };
    let whole = rows("whole", ["per_device_train_batch_size=6", "gradient_accumulation_steps=1"]);
    let parts = rows("parts", ["per_device_train_batch_size=2", "gradient_accumulation_steps=3"]);
    let lone = rows("lone", ["per_device_train_batch_size=1", "gradient_accumulation_steps=6"]);
    assert_eq!((whole.len(), parts.len(), lone.len()), (8, 8, 8), "six steps and two evaluations");
    for other in [&parts, &lone] {
        for (whole, other) in whole.iter().zip(other) {
            for figure in ["loss", "grad_norm", "rewards/margins", "eval_loss", "eval_rewards/margins"] {
                let (Some(whole), Some(other)) = (whole.get(figure), other.get(figure)) else { continue };
                assert_relative(other + 1.0, whole + 1.0, COURSE, &format!("{name}, {figure}"));
            }
        }
    }
    let first = whole.iter().find_map(|row| row.get("loss")).expect("a loss");
    let last = whole.iter().rev().find_map(|row| row.get("loss")).expect("a loss");
    assert!(last < first, "{name} learns: {first} {last}");
}
