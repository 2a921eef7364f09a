//! Several files as data: what is reported of them, reproducibility, and errors.

use std::fs;

use collimate_report::metrics::CLOCKED;
use rstest::rstest;
use serde_json::Value;

use super::ranked_set;
use crate::harness::{Folder, collimate, succeed};
use crate::small_model::model_arg;

/// The metrics of a run without time and memory.
fn timeless(folder: &Folder, run: &str) -> Vec<Value> {
    let mut rows = folder.rows(&format!("{run}/metrics.jsonl"));
    for row in &mut rows {
        CLOCKED.iter().for_each(|name| drop(row.as_object_mut().expect("a row").shift_remove(*name)));
    }
    rows
}

/// A recipe that mixes two files.
fn mix(folder: &Folder, extra: &str) -> String {
    folder.write("a.jsonl", ranked_set("a", 12));
    folder.write("b.jsonl", ranked_set("b", 4));
    let recipe = format!(
        "model_name_or_path: {}\ndata: {{a.jsonl: 0.5, b.jsonl: 1.0}}\nuse_peft: true\nlora_r: 4\nlora_dropout: 0.1\n\
         learning_rate: 1e-3\nper_device_train_batch_size: 2\n{extra}",
        model_arg()
    );
    folder.write("mix.yaml", recipe)
}

#[test]
fn shares_are_said_and_the_same_every_time() {
    let folder = Folder::new();
    let recipe = mix(&folder, "eval_fraction: 0.2\n");
    let err = succeed(&["train", &recipe, "--output", &folder.arg("first")]).err;
    for said in [
        "a.jsonl: layout ranked_set",
        "6 of 12 groups used: weight 0.5",
        "b.jsonl: layout ranked_set",
        "data: 8 prompts, 32 responses",
        "held out: 2 prompts, 8 responses",
    ] {
        assert!(err.contains(said), "{said} in {err}");
    }
    succeed(&["train", &recipe, "--output", &folder.arg("second")]);
    assert_eq!(timeless(&folder, "first"), timeless(&folder, "second"));
    succeed(&["train", &recipe, "--output", &folder.arg("third"), "--set", "seed=43"]);
    assert_ne!(timeless(&folder, "first"), timeless(&folder, "third"));
}

#[test]
fn a_mix_that_is_resumed_ends_with_the_same_bytes() {
    let folder = Folder::new();
    let recipe = mix(&folder, "eval_fraction: 0.2\nmax_samples: 9\nmax_steps: 6\nsave_steps: 2\n");
    succeed(&["train", &recipe, "--output", &folder.arg("whole")]);
    for name in ["checkpoint-2", "checkpoint-4"] {
        folder.copy(&folder.path(&format!("whole/{name}")), &format!("broken/{name}"));
    }
    // The state that a run killed after its last checkpoint leaves: later rows are computed again.
    for name in ["recipe.yaml", "metrics.jsonl"] {
        fs::copy(folder.path("whole").join(name), folder.path("broken").join(name)).expect("a file of the run");
    }
    let err = succeed(&["train", "--resume", "--output", &folder.arg("broken")]).err;
    assert!(err.contains("resuming after step 4"), "{err}");
    let weights = |run: &str| fs::read(folder.path(run).join("adapter_model.safetensors")).expect("the adapter");
    assert!(weights("whole") == weights("broken"));
    assert_eq!(timeless(&folder, "whole"), timeless(&folder, "broken"));
}

#[test]
fn a_file_that_changed_since_the_checkpoint_is_noticed() {
    let folder = Folder::new();
    let recipe = mix(&folder, "max_steps: 4\nsave_steps: 2\n");
    succeed(&["train", &recipe, "--output", &folder.arg("run")]);
    folder.write("b.jsonl", ranked_set("c", 4));
    let outcome = collimate(&["train", "--resume", &recipe, "--output", &folder.arg("run")]);
    assert!(outcome.code == 1 && outcome.err.contains("other data"), "{}", outcome.err);
}

#[rstest]
#[case::malformed(
    "{\"prompt\": \"p\", \"A0\": \"a\", \"A1\": \"b\", \"score_A0\": 1, \"score_A1\": \"n/a\"}\n",
    "b.jsonl:3: field \"score_A1\""
)]
#[case::unusable(
    "{\"prompt\": \"p\", \"A0\": \"a\", \"A1\": \" \", \"score_A0\": 1, \"score_A1\": 0}\n",
    "b.jsonl:3: "
)]
fn an_error_names_the_line_of_its_own_file(#[case] row: &str, #[case] expected: &str) {
    let folder = Folder::new();
    let recipe = mix(&folder, "");
    folder.write("b.jsonl", ranked_set("b", 2) + row);
    let outcome = collimate(&["train", &recipe, "--output", &folder.arg("run")]);
    assert!(outcome.code == 2 && outcome.err.contains(expected), "{}", outcome.err);
    assert!(!folder.path("run/metrics.jsonl").exists());
}

#[test]
fn filters_and_duplicates_are_counted() {
    let folder = Folder::new();
    let tied = "{\"prompt\": \"t\", \"A0\": \"a\", \"A1\": \"b\", \"score_A0\": 1, \"score_A1\": 1}\n";
    let near = "{\"prompt\": \"n\", \"A0\": \"a\", \"A1\": \"b\", \"score_A0\": 2, \"score_A1\": 1}\n";
    let data = folder.write("d.jsonl", [ranked_set("d", 4), ranked_set("d", 2), tied.into(), near.into()].concat());
    let args = ["train", "--model", model_arg(), "--data", &data, "--set", "max_steps=1"];
    let whole = succeed(&[&args[..], &["--output", &folder.arg("whole")]].concat()).err;
    assert!(
        whole
            .contains(&format!("2 duplicates of an earlier prompt with its responses, the first {data}:5 of {data}:1")),
        "{whole}"
    );
    let filters = ["--set", "drop_ties=true", "--set", "min_reward_gap=2", "--set", "max_samples=3"];
    let err = succeed(&[&args[..], &filters, &["--output", &folder.arg("filtered")]].concat()).err;
    for said in [
        "1 group dropped: below min_reward_gap",
        "1 group dropped: tied",
        "3 groups left out: max_samples 3",
        "  3 prompts",
    ] {
        assert!(err.contains(said), "{said} in {err}");
    }
}
