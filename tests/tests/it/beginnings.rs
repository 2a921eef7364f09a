//! Every state that a kill or a full disk can leave of a run, from its first file to its last: each goes on, or says how.

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::json;

use crate::harness::{Folder, Outcome, collimate, succeed, train};
use crate::small_model::model_arg;

/// Four steps with two checkpoints and a sample answer.
pub(crate) const SETTINGS: [&str; 6] = [
    "max_steps=4",
    "save_steps=2",
    "per_device_train_batch_size=2",
    "learning_rate=1e-3",
    "sample_prompts=1",
    "sample_max_new_tokens=4",
];

/// Twelve rows of three responses.
pub(crate) fn rows() -> String {
    let response = |i: usize, k: usize| json!({"content": format!("{}", i * (k + 3)), "reward": 1.0 / (k + 1) as f64});
    let row = |i: usize| {
        let responses: Vec<_> = (0..3).map(|k| response(i, k)).collect();
        json!({"prompt": format!("What is 3 times {i}?"), "responses": responses}).to_string() + "\n"
    };
    (2..14).map(row).collect()
}

/// A finished run in `whole`.
fn whole(folder: &Folder) -> String {
    let data = folder.write("data.jsonl", rows());
    succeed(&train(model_arg(), &data, &folder.arg("whole"), &SETTINGS));
    data
}

/// A folder with these files and checkpoints of the finished run; a name with `:N` is cut to N lines.
fn state(folder: &Folder, name: &str, parts: &[&str]) -> String {
    fs::create_dir_all(folder.path(name)).expect("a folder");
    for part in parts {
        let from = folder.path("whole").join(part);
        match part.split_once(':') {
            Some((file, lines)) => {
                let lines = lines.parse().expect("a number");
                let text = folder.read(&format!("whole/{file}"));
                folder.write(
                    &format!("{name}/{file}"),
                    text.lines().take(lines).map(|l| l.to_owned() + "\n").collect::<String>(),
                );
            }
            None if *part == "recipe.yaml" => {
                // As a run in this folder writes it.
                let text = folder.read("whole/recipe.yaml").replace(&folder.arg("whole"), &folder.arg(name));
                drop(folder.write(&format!("{name}/{part}"), text));
            }
            None if from.is_dir() => drop(folder.copy(&from, &format!("{name}/{part}"))),
            None => drop(folder.write(&format!("{name}/{part}"), fs::read(&from).expect("a file"))),
        }
    }
    folder.arg(name)
}

fn full(data: &str, output: &str, more: &[&str]) -> Outcome {
    collimate(&[&train(model_arg(), data, output, &SETTINGS)[..], more].concat())
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("model.safetensors")).expect("weights")
}

/// What a run writes, in this order.
const BEGUN: [&str; 5] = ["recipe.yaml", "lengths.json", "samples.json", "run.json", "metrics.jsonl:0"];

#[rstest]
fn a_run_that_was_killed_before_its_first_row_begins_again(#[values(0, 1, 2, 3, 4, 5)] num_files: usize) {
    let folder = Folder::new();
    let data = whole(&folder);
    for (name, more) in [("plain", &[][..]), ("resumed", &["--resume"])] {
        let output = state(&folder, name, &BEGUN[..num_files]);
        let outcome = full(&data, &output, more);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        assert!(weights(&folder.path(name)) == weights(&folder.path("whole")));
    }
    // As a user would.
    let output = state(&folder, "short", &BEGUN[..num_files]);
    let outcome = collimate(&["train", "--output", &output, "--resume", "--set", "reference_cache=false"]);
    if num_files == 0 {
        assert_eq!(outcome.code, 2, "{}", outcome.err);
        assert!(outcome.err.contains("it has no recipe.yaml"), "{}", outcome.err);
        assert!(outcome.err.contains("the run did not begin: give the command that started it"), "{}", outcome.err);
    } else {
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        assert!(outcome.err.contains("no checkpoint to resume from; starting at step 1"), "{}", outcome.err);
        assert!(weights(&folder.path("short")) == weights(&folder.path("whole")));
    }
}

const LATER: [&[&str]; 4] = [
    &["recipe.yaml", "lengths.json", "samples.json", "run.json", "metrics.jsonl:1"],
    &["recipe.yaml", "lengths.json", "samples.json", "run.json", "metrics.jsonl", "checkpoint-2"],
    &["recipe.yaml", "lengths.json", "samples.json", "run.json", "metrics.jsonl", "checkpoint-2", "checkpoint-4"],
    &[
        "recipe.yaml",
        "lengths.json",
        "samples.json",
        "run.json",
        "metrics.jsonl",
        "checkpoint-2",
        "checkpoint-4",
        "model.safetensors",
    ],
];

#[rstest]
fn a_run_that_was_killed_later_goes_on(#[values(0, 1, 2, 3)] at: usize) {
    let folder = Folder::new();
    let data = whole(&folder);
    let output = state(&folder, "run", LATER[at]);
    let outcome = full(&data, &output, &[]);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    assert!(outcome.err.contains("use --resume to continue it"), "{}", outcome.err);
    let outcome = collimate(&["train", "--output", &output, "--resume", "--set", "reference_cache=false"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(weights(&folder.path("run")) == weights(&folder.path("whole")));
    assert_eq!(folder.rows("run/metrics.jsonl").len(), 4);
}

#[test]
fn the_recipe_of_a_checkpoint_takes_the_place_of_one_that_is_lost() {
    let folder = Folder::new();
    whole(&folder);
    let output = state(&folder, "run", &["run.json", "metrics.jsonl", "checkpoint-2"]);
    let outcome = collimate(&["train", "--output", &output, "--resume", "--set", "reference_cache=false"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.err.contains("recipe.yaml is missing; its copy "), "{}", outcome.err);
    assert!(outcome.err.contains("checkpoint-2/recipe.yaml is used") && outcome.err.contains("resuming after step 2"));
    assert!(weights(&folder.path("run")) == weights(&folder.path("whole")));
    assert_eq!(
        folder.read("run/recipe.yaml"),
        folder.read("whole/recipe.yaml").replace(&folder.arg("whole"), &folder.arg("run"))
    );
}

#[test]
fn a_recipe_that_is_lost_with_every_copy_is_asked_for() {
    let folder = Folder::new();
    let data = whole(&folder);
    let output = state(&folder, "run", &["run.json", "samples.json", "lengths.json", "metrics.jsonl:2"]);
    let outcome = full(&data, &output, &[]);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    assert!(outcome.err.contains("use --resume to continue it"), "{}", outcome.err);
    let outcome = collimate(&["train", "--output", &output, "--resume"]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    for part in [
        "its recipe.yaml is missing, and it has no checkpoint with another",
        "give its recipe, or model and data, with --resume: without a checkpoint it begins again at step 1",
    ] {
        assert!(outcome.err.contains(part), "{part:?} is not in {}", outcome.err);
    }
    assert_eq!(folder.rows("run/metrics.jsonl").len(), 2, "nothing was touched");
    // What it says works.
    let outcome = full(&data, &output, &["--resume"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(weights(&folder.path("run")) == weights(&folder.path("whole")));
}
