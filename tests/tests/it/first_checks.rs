//! What is cheap to check is checked before any data is read.

use std::fs;
use std::path::Path;

use rstest::rstest;

use crate::harness::{Folder, Outcome, collimate};
use crate::small_model::{model, model_arg};

/// The small model with its weights taken away.
fn without_weights(folder: &Folder) -> String {
    folder.copy(model(), "model");
    fs::remove_file(folder.path("model/model.safetensors")).expect("weights");
    folder.arg("model")
}

/// A verb's command line on this model; its data is broken, which it must not find out.
fn command(verb: &str, model: &str, folder: &Folder) -> Vec<String> {
    let data = folder.write("data.jsonl", "this is no row\n");
    let output = folder.arg("out");
    let args: &[&str] = match verb {
        "train" => &["train", "--model", model, "--data", &data, "--output", &output],
        "plan" => &["plan", "--model", model, "--data", &data, "--measure"],
        "score" => &["score", "--model", model, "--data", &data, "--output", &output],
        "sample" => &["sample", "--model", model, "--data", &data, "--output", &output],
        _ => &["loop", "--model", model, "--prompts", &data, "--command", "cat", "--output", &output],
    };
    args.iter().map(|&arg| arg.to_owned()).collect()
}

fn refused(outcome: &Outcome, part: &str) {
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains(part), "{part:?} is not in: {}", outcome.err);
    for stage in ["reading", "tokenizing", "data.jsonl:1"] {
        assert!(!outcome.err.contains(stage), "{}", outcome.err);
    }
}

#[rstest]
fn missing_weights_are_found_before_the_data_is_read(#[values("train", "plan", "score", "sample", "loop")] verb: &str) {
    let folder = Folder::new();
    let model = without_weights(&folder);
    refused(&collimate(&command(verb, &model, &folder)), "safetensors");
}

#[rstest]
fn what_it_cannot_compute_with_is_found_before_the_data_is_read(
    #[values("train", "plan", "score", "sample", "loop")] verb: &str,
) {
    let folder = Folder::new();
    let mut args = command(verb, model_arg(), &folder);
    args.extend(["--backend", "abacus"].map(str::to_owned));
    refused(&collimate(&args), "abacus");
}

#[rstest]
#[case::train("train", &[])]
#[case::loop_("loop", &[])]
#[case::adapter("train", &["use_peft=true"])]
fn a_memory_budget_that_is_too_small_is_found_with_its_remedy(#[case] verb: &str, #[case] settings: &[&str]) {
    let folder = Folder::new();
    let mut args = command(verb, model_arg(), &folder);
    for setting in [&["memory_budget=4MiB"], settings].concat() {
        args.extend(["--set", setting].map(str::to_owned));
    }
    let outcome = collimate(&args);
    refused(&outcome, "too little");
    for part in ["memory_budget", "gradient_checkpointing"] {
        assert!(outcome.err.contains(part), "{}", outcome.err);
    }
    assert_eq!(outcome.err.contains("use_peft: true"), settings.is_empty(), "{}", outcome.err);
}

#[rstest]
fn an_output_that_cannot_be_written_is_found_before_the_data_is_read(
    #[values("train", "score", "sample", "reward")] verb: &str,
) {
    let folder = Folder::new();
    let data = folder.write("data.jsonl", "this is no row\n");
    let mut args = command(verb, model_arg(), &folder);
    if verb == "reward" {
        args = ["reward", "--command", "cat", "--data", &data, "--output", ""].map(str::to_owned).to_vec();
    }
    let last = args.len() - 1;
    args[last] = Path::new(&data).join("out").display().to_string();
    let outcome = collimate(&args);
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    assert!(outcome.err.contains("cannot be written") && !outcome.err.contains("data.jsonl:1"), "{}", outcome.err);
}

#[rstest]
fn a_reward_program_that_is_not_there_is_found_before_the_data_is_read(#[values("reward", "loop")] verb: &str) {
    let folder = Folder::new();
    let data = folder.write("data.jsonl", "this is no row\n");
    let output = folder.arg("out");
    let args = match verb {
        "reward" => vec!["reward", "--command", "no-such-program-here -x", "--data", &data, "--output", &output],
        _ => vec!["loop", "--model", model_arg(), "--prompts", &data, "--command", "./none", "--output", &output],
    };
    let outcome = collimate(&args);
    refused(&outcome, "cannot be started");
    assert!(outcome.err.contains("put its folder on PATH"), "{}", outcome.err);
}
