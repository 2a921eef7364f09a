//! Runs of the golden models on published data.

use std::fs;

use collimate_oracle::tolerances::{FIRST_LOSS, assert_absolute, assert_relative};
use rstest::rstest;
use serde_json::Value;

use super::golden_arg;
use crate::harness::{Folder, succeed, train};
use crate::real_data;

const STEPS: usize = 50;

/// NCA's loss if policy and reference are the same, for every K and all rewards.
const NCA_AT_START: f64 = 2.0 * std::f64::consts::LN_2;

/// The figures in the rows of every run, besides the series of rewards and log-probs by rank.
const FIGURES: [&str; 13] = [
    "step",
    "epoch",
    "loss",
    "grad_norm",
    "learning_rate",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "num_tokens",
    "step_seconds",
];

fn figure(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"))
}

fn mean(rows: &[Value], name: &str) -> f64 {
    rows.iter().map(|row| figure(row, name)).sum::<f64>() / rows.len() as f64
}

#[rstest]
#[case::adapter("qwen2", "gsm8k_rewards.jsonl", 4, &["use_peft=true", "lora_r=8", "learning_rate=5e-4"])]
#[case::all_weights("llama", "topical_chat_rewards.jsonl", 6, &["learning_rate=2e-4"])]
fn fifty_steps_on_real_data(
    #[case] model: &str,
    #[case] data: &str,
    #[case] num_responses: usize,
    #[case] settings: &[&str],
) {
    let folder = Folder::new();
    let (base, data, run) = (golden_arg(&format!("models/{model}")), real_data::file(data), folder.arg("run"));
    let mut all = settings.to_vec();
    all.extend(["max_steps=50", "max_length=160", "max_prompt_length=80", "per_device_train_batch_size=2"]);
    let outcome = succeed(&train(&base, &data, &run, &all));

    let cut = outcome.err.split("cut: ").nth(1).expect("counts of what was cut");
    let counts: Vec<usize> = cut.split(' ').filter_map(|word| word.parse().ok()).take(2).collect();
    assert!(counts.len() == 2 && counts[0] > 0 && counts[1] > 0, "{}", outcome.err);
    check_metrics(&folder.rows("run/metrics.jsonl"), num_responses);
    for name in ["README.md", "report.html", "recipe.yaml", "checkpoint-50"] {
        assert!(folder.path("run").join(name).exists(), "{name}");
    }

    let trained: &[&str] =
        if settings.contains(&"use_peft=true") { &["--model", &base, "--adapter", &run] } else { &["--model", &run] };
    let score = |model: &[&str]| -> Vec<f64> {
        let output = folder.arg("scores.jsonl");
        let lengths = ["--max-length", "160", "--max-prompt-length", "80"];
        let args = ["score", "--data", &data, "--max-samples", "2", "--force", "--output", &output];
        succeed(&[&args[..], &lengths, model].concat());
        let rows = folder.rows("scores.jsonl");
        let responses = rows.iter().flat_map(|row| row["responses"].as_array().expect("responses"));
        responses.map(|response| figure(response, "logps")).collect()
    };
    let (before, after) = (score(&["--model", &base]), score(trained));
    assert_eq!(after.len(), 2 * num_responses);
    assert!(after.iter().all(|logps| *logps < 0.0));
    assert_ne!(before, after, "what was saved must be what was trained");
}

fn check_metrics(rows: &[Value], num_responses: usize) {
    assert_eq!(rows.len(), STEPS);
    for (row, step) in rows.iter().zip(1..) {
        assert_eq!(row["step"], step);
        let ranks = (0..num_responses).flat_map(|k| [format!("rewards/rank_{k}"), format!("logps/rank_{k}")]);
        for name in FIGURES.iter().map(ToString::to_string).chain(ranks) {
            // If all prompts of a step are tied, accuracy is undefined.
            assert!(row[&name].is_number() || name == "rewards/accuracies" && row[&name].is_null(), "{name} in {row}");
        }
    }
    assert_absolute(figure(&rows[0], "loss"), NCA_AT_START, FIRST_LOSS, "loss of the first step");
    // A model with random weights learns nothing from rows it sees once, but it must not diverge either.
    assert_relative(mean(rows, "loss"), NCA_AT_START, 0.1, "mean loss");
    assert!(figure(&rows[STEPS - 1], "rewards/chosen").abs() > 1e-3, "the policy must have moved");
}

#[rstest]
#[case::adapter(&["use_peft=true", "lora_r=8", "learning_rate=3e-3"])]
#[case::all_weights(&["learning_rate=3e-4"])]
fn the_loss_falls_on_rows_of_real_data_seen_again(#[case] settings: &[&str]) {
    let folder = Folder::new();
    let all = fs::read_to_string(real_data::file("gsm8k_rewards.jsonl")).expect("the data");
    // Only rows with both right and wrong responses have something to learn from.
    let rows: Vec<&str> =
        all.lines().filter(|row| row.contains("reward\": 0.0") && row.contains("reward\": 1.0")).collect();
    let data = folder.write("rows.jsonl", rows[..6].join("\n"));
    let (model, run) = (golden_arg("models/llama"), folder.arg("run"));
    let mut all = settings.to_vec();
    all.extend(["max_steps=30", "max_length=128", "max_prompt_length=64", "per_device_train_batch_size=2"]);
    succeed(&train(&model, &data, &run, &all));
    let rows = folder.rows("run/metrics.jsonl");
    let (first, last) = (&rows[..10], &rows[20..]);
    assert!(mean(last, "loss") < mean(first, "loss"), "{} then {}", mean(first, "loss"), mean(last, "loss"));
    assert!(mean(last, "loss") < 0.9 * NCA_AT_START, "{}", mean(last, "loss"));
    assert!(mean(last, "rewards/margins") > 1.0);
}
