//! Runs that keep the best evaluation, and runs that end before their last step.

use std::fs;

use rstest::rstest;

use crate::harness::{Folder, Outcome, collimate, succeed, train};
use crate::resume::{groups, timeless};
use crate::small_model::model_arg;

/// Six steps, an evaluation after each. The loss falls, so that by `greater_is_better` the first evaluation is the best.
const COMMON: [&str; 8] = [
    "max_steps=6",
    "per_device_train_batch_size=2",
    "learning_rate=5e-5",
    "lr_scheduler_type=constant",
    "eval_fraction=0.3",
    "eval_steps=1",
    "greater_is_better=true",
    "torch_dtype=float32",
];
const BEST: &str = "load_best_model_at_end=true";

fn run(folder: &Folder, name: &str, settings: &[&str]) -> Outcome {
    succeed(&train(model_arg(), &groups(folder), &folder.arg(name), &[&COMMON, settings].concat()))
}

fn resume(folder: &Folder, name: &str, settings: &[&str]) -> Outcome {
    let output = folder.arg(name);
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let outcome =
        collimate(&["train", "--resume", "--output", &output].into_iter().chain(settings).collect::<Vec<_>>());
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    outcome
}

/// The weights of a run with a checkpoint after every step, and its losses on held-out data after each step from 1 on.
fn whole_run(folder: &Folder, settings: &[&str]) -> Vec<f64> {
    run(folder, "whole", &[settings, &["save_steps=1"]].concat());
    let rows = folder.rows("whole/metrics.jsonl");
    let losses: Vec<f64> = rows.iter().filter_map(|row| row["eval_loss"].as_f64()).skip(1).collect();
    assert!(losses.len() == 6 && losses.is_sorted_by(|a, b| a > b), "the loss falls: {losses:?}");
    losses
}

fn assert_same_weights(folder: &Folder, file: &str, expected: &str, found: &str) {
    let bytes = |run: &str| fs::read(folder.path(run).join(file)).expect("weights");
    assert!(bytes(expected) == bytes(found), "{file} of {found} is not that of {expected}");
}

fn checkpoints(folder: &Folder, run: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.path(run)).expect("a folder").flatten();
    let names = entries.map(|entry| entry.file_name().display().to_string());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("checkpoint-")).collect();
    names.sort();
    names
}

#[rstest]
#[case::all_weights(&[], "model.safetensors")]
#[case::adapter(&["use_peft=true", "lora_dropout=0.1"], "adapter_model.safetensors")]
fn the_weights_of_the_best_evaluation_are_saved(#[case] settings: &[&str], #[case] file: &str) {
    let folder = Folder::new();
    whole_run(&folder, settings);
    let kept = [settings, &[BEST, "save_total_limit=1", "save_steps=2"]].concat();
    let outcome = run(&folder, "best", &kept);
    let said = "the best evaluation is that after step 1, eval_loss";
    assert!(outcome.err.contains(said), "{}", outcome.err);
    assert_eq!(checkpoints(&folder, "best"), ["checkpoint-1", "checkpoint-6"]);
    assert_same_weights(&folder, file, "whole/checkpoint-1", "best");
    assert_eq!(timeless(&folder, "whole"), timeless(&folder, "best"));
    let card = folder.read("best/README.md");
    assert!(card.contains("| Steps | 6 of 2 prompts, the best evaluation after 1 |"), "{card}");

    // A finished run, and one of which only the best checkpoint is left.
    resume(&folder, "best", &[]);
    assert_same_weights(&folder, file, "whole/checkpoint-1", "best");
    fs::remove_dir_all(folder.path("best/checkpoint-6")).expect("a checkpoint");
    let outcome = resume(&folder, "best", &["greater_is_better=false"]);
    assert!(outcome.err.contains("resuming after step 1"), "{}", outcome.err);
    assert!(outcome.err.contains("the best evaluation is that after step 6"), "{}", outcome.err);
    assert_same_weights(&folder, file, "whole/checkpoint-6", "best");
}

#[test]
fn a_best_checkpoint_that_is_gone_is_an_error_that_names_it() {
    let folder = Folder::new();
    run(&folder, "best", &[BEST]);
    fs::remove_dir_all(folder.path("best/checkpoint-1")).expect("a checkpoint");
    let outcome = collimate(&["train", "--resume", "--output", &folder.arg("best")]);
    assert!(outcome.code == 1 && outcome.err.contains("checkpoint-1"), "{}: {}", outcome.code, outcome.err);
}

#[test]
fn a_run_ends_when_patience_is_used_up_and_goes_on_with_more_of_it() {
    let folder = Folder::new();
    let losses = whole_run(&folder, &[]);
    let outcome = run(&folder, "short", &["early_stopping_patience=2"]);
    let said = format!(
        "the run ends after step 3 of 6: eval_loss has not improved in 2 evaluations since step 1, with {:.4}",
        losses[0]
    );
    assert!(outcome.err.contains(&said), "{}", outcome.err);
    assert_eq!(checkpoints(&folder, "short"), ["checkpoint-3"]);
    // Without `load_best_model_at_end` the last weights are saved.
    assert_same_weights(&folder, "model.safetensors", "whole/checkpoint-3", "short");

    let again = resume(&folder, "short", &[]);
    assert!(again.err.contains("the run ends after step 3 of 6"), "{}", again.err);
    let more = resume(&folder, "short", &["early_stopping_patience=4"]);
    assert!(more.err.contains("the run ends after step 5 of 6"), "{}", more.err);
    assert_same_weights(&folder, "model.safetensors", "whole/checkpoint-5", "short");
    resume(&folder, "short", &["early_stopping_patience=null"]);
    assert_same_weights(&folder, "model.safetensors", "whole", "short");
    assert_eq!(timeless(&folder, "whole"), timeless(&folder, "short"));
}

#[test]
fn a_run_that_was_killed_keeps_the_count() {
    let folder = Folder::new();
    let settings = ["early_stopping_patience=3", "save_steps=1", BEST];
    run(&folder, "whole", &settings);
    // The state that a process killed after its third evaluation leaves behind.
    for name in ["checkpoint-1", "checkpoint-2"] {
        folder.copy(&folder.path(&format!("whole/{name}")), &format!("broken/{name}"));
    }
    let rows = folder.read("whole/metrics.jsonl");
    let end = rows.match_indices('\n').nth(6).expect("seven rows").0;
    folder.write("broken/metrics.jsonl", &rows[..=end]);
    let (data, output) = (groups(&folder), folder.arg("broken"));
    let all = [&COMMON[..], &settings].concat();
    let mut arguments = train(model_arg(), &data, &output, &all);
    arguments.push("--resume");
    let outcome = succeed(&arguments);
    assert!(outcome.err.contains("resuming after step 2"), "{}", outcome.err);
    assert!(outcome.err.contains("the run ends after step 4 of 6"), "{}", outcome.err);
    assert_eq!(timeless(&folder, "whole"), timeless(&folder, "broken"));
    assert_same_weights(&folder, "model.safetensors", "whole", "broken");
}

#[test]
fn a_run_ends_when_a_figure_drifts() {
    let folder = Folder::new();
    let outcome = run(&folder, "run", &["stop_on_drift={loss: -1e-9}"]);
    assert!(outcome.err.contains("the run ends after step 1 of 6: eval_loss went from "), "{}", outcome.err);
    assert_eq!(checkpoints(&folder, "run"), ["checkpoint-1"]);
}

#[rstest]
#[case(
    "metric_for_best_model=accuracy",
    "key \"metric_for_best_model\": an evaluation has no figure eval_accuracy; it has eval_loss"
)]
#[case("stop_on_drift={loss: 1, reward: 2}", "key \"stop_on_drift\": an evaluation has no figure eval_reward;")]
fn an_unknown_figure_is_refused_before_the_run(#[case] setting: &str, #[case] message: &str) {
    let folder = Folder::new();
    let settings = [&COMMON[..], &[BEST, setting]].concat();
    let outcome = collimate(&train(model_arg(), &groups(&folder), &folder.arg("run"), &settings));
    assert!(outcome.code == 2 && outcome.err.contains(message), "{}: {}", outcome.code, outcome.err);
    assert!(!folder.path("run/metrics.jsonl").exists());
}
