//! `collimate tune`: settings by successive halving.

use std::fs;

use rstest::rstest;
use serde_json::Value;

use crate::harness::{Folder, Outcome, collimate};
use crate::resume::groups;
use crate::small_model::model_arg;

/// Tunes the small model into `tuned.yaml`, with these arguments beside.
fn tune(folder: &Folder, args: &[&str]) -> Outcome {
    let (data, output) = (groups(folder), folder.arg("tuned.yaml"));
    let settings = ["use_peft=true", "max_steps=5", "per_device_train_batch_size=2", "eval_fraction=0.3"];
    let caches = ["reference_cache=false", "token_cache=false"];
    let set = settings.iter().chain(&caches).flat_map(|setting| ["--set", setting]);
    let given = ["tune", "--model", model_arg(), "--data", &data, "--objective", "nca", "--output", &output];
    let defaults = [["--candidates", "3"], ["--budget", "10m"]].into_iter().filter(|[name, _]| !args.contains(name));
    let all: Vec<&str> = given.into_iter().chain(set).chain(defaults.flatten()).collect();
    collimate(&[&all, args].concat())
}

fn score(row: &Value, rung: usize) -> (u64, f64, f64) {
    let score = &row["scores"][rung];
    let number = |name: &str| score[name].as_f64().expect("a figure");
    (score["step"].as_u64().expect("a step"), number("accuracy"), number("chosen_logp"))
}

#[test]
fn the_better_half_goes_on_from_its_checkpoints_and_the_best_is_written() {
    let folder = Folder::new();
    let outcome = tune(&folder, &[]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let rows = folder.rows("tuned-tune/tune.jsonl");
    // Three candidates to step 2, the better two to step 4, and these again with another seed.
    let names: Vec<&str> = rows.iter().filter_map(|row| row["run"].as_str()).collect();
    assert_eq!(names[..3], ["run-00", "run-01", "run-02"]);
    assert!(names.len() == 5 && names[3..].iter().all(|name| name.ends_with("-seed-43")), "{names:?}");
    let first: Vec<_> = rows[..3].iter().map(|row| score(row, 0)).collect();
    assert!(first.iter().all(|score| score.0 == 2), "{first:?}");
    let went_on: Vec<bool> = rows[..3].iter().map(|row| row["scores"].as_array().expect("scores").len() == 2).collect();
    assert_eq!(went_on.iter().filter(|on| **on).count(), 2);
    let left = went_on.iter().position(|on| !on).expect("one that stayed");
    let key = |score: (u64, f64, f64)| (score.1, score.2);
    assert!((0..3).all(|other| other == left || key(first[other]) >= key(first[left])), "{first:?}");
    // All start from the same reference, which was scored once.
    let starts: Vec<&Value> = rows.iter().map(|row| &row["curve"][0]["chosen_logp"]).collect();
    assert!(starts[..3].iter().all(|start| *start == starts[0]), "{starts:?}");
    // Another seed holds other prompts out, the same for both finalists.
    assert!(starts[3] == starts[4] && starts[3] != starts[0], "{starts:?}");
    assert!(folder.path("tuned-tune/reference").is_dir());
    // A run that went on has rows of every step once.
    let name = names[went_on.iter().position(|on| *on).expect("one that went on")];
    let metrics = folder.rows(&format!("tuned-tune/{name}/metrics.jsonl"));
    let steps: Vec<u64> =
        metrics.iter().filter(|row| row.get("loss").is_some()).filter_map(|r| r["step"].as_u64()).collect();
    assert_eq!(steps, [1, 2, 3, 4]);

    let chosen: Vec<&Value> = rows.iter().filter(|row| row["is_chosen"] == true).collect();
    assert_eq!(chosen.len(), 2, "{rows:?}");
    let text = folder.read("tuned.yaml");
    let recipe: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).expect("a recipe");
    for name in ["beta", "alpha"] {
        assert_eq!(recipe["objective"][name].as_f64(), chosen[0][name].as_f64(), "{text}");
    }
    assert_eq!(recipe["learning_rate"].as_f64(), chosen[0]["learning_rate"].as_f64(), "{text}");
    // The rest of the recipe is as it was given.
    assert_eq!((recipe["max_steps"].as_i64(), recipe["seed"].as_i64()), (Some(5), Some(42)));
    assert!(outcome.out.contains("chosen: learning_rate") && outcome.out.contains("2 seeds"), "{}", outcome.out);
    let page = folder.read("tuned-tune/tune.html");
    assert!(page.contains("<svg") && page.contains("run-02") && page.contains("how sure"));

    let again = tune(&folder, &["--resume"]);
    assert!(again.code == 2 && again.err.contains("tuned.yaml"), "{}", again.err);
}

#[test]
fn an_interrupted_tuning_goes_on_and_chooses_the_same() {
    let folder = Folder::new();
    let outcome = tune(&folder, &["--work", &folder.arg("whole")]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    fs::rename(folder.path("tuned.yaml"), folder.path("whole.yaml")).expect("a recipe");
    // What a process leaves that was killed in the second rung.
    for (name, is_begun) in [("run-00", true), ("run-01", true), ("run-02", false)] {
        if is_begun {
            copy_all(&folder, &format!("whole/{name}"), &format!("broken/{name}"));
        }
    }
    let record = folder.read("whole/tune.json");
    folder.write("broken/tune.json", record);
    let taken = tune(&folder, &["--work", &folder.arg("broken")]);
    assert!(taken.code == 2 && taken.err.contains("--resume"), "{}", taken.err);
    let outcome = tune(&folder, &["--work", &folder.arg("broken"), "--resume"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert_eq!(folder.rows("broken/tune.jsonl"), folder.rows("whole/tune.jsonl"));
    let settings = |name: &str| {
        folder.read(name).lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(settings("tuned.yaml"), settings("whole.yaml"));
    let other = tune(&folder, &["--work", &folder.arg("broken"), "--resume", "--candidates", "4", "--force"]);
    assert!(other.code == 2 && other.err.contains("differ"), "{}", other.err);
}

/// Copies a folder with all that is below it.
fn copy_all(folder: &Folder, from: &str, to: &str) {
    for entry in fs::read_dir(folder.path(from)).expect("a folder").flatten() {
        let (name, path) = (entry.file_name().display().to_string(), entry.path());
        match path.is_dir() {
            true => copy_all(folder, &format!("{from}/{name}"), &format!("{to}/{name}")),
            false => {
                folder.write(&format!("{to}/{name}"), fs::read(&path).expect("a file"));
            }
        }
    }
}

#[test]
fn sampled_answers_are_scored_by_the_program() {
    let folder = Folder::new();
    let prompts =
        folder.write("prompts.jsonl", "{\"prompt\": \"What is 7 times 3?\"}\n{\"prompt\": \"What is 7 times 4?\"}\n");
    // The length of an answer, as its reward.
    let program = "while read -r line; do echo \"${#line}\"; done";
    let outcome = tune(
        &folder,
        &["--command", program, "--shell", "--prompts", &prompts, "--max-new-tokens", "4", "--num-responses", "2"],
    );
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let rows = folder.rows("tuned-tune/tune.jsonl");
    assert!(rows.iter().all(|row| row["scores"][0]["reward"].as_f64().is_some_and(|reward| reward > 10.0)), "{rows:?}");
    assert!(outcome.out.contains("reward"), "{}", outcome.out);
}

#[rstest]
#[case::one_candidate(&["--candidates", "1"], "--candidates")]
#[case::too_many_for_the_run(&["--candidates", "64"], "--candidates: 64 need a run of 32 steps")]
#[case::no_time(&["--budget", "0.001s"], "--budget: 0 s are too few")]
#[case::not_in_the_objective(&["--range", "alpha=1..2", "--set", "objective=dpo"], "has no alpha")]
#[case::nothing_held_out(&["--set", "eval_fraction=0"], "eval_fraction")]
#[case::no_prompts(&["--command", "cat"], "--prompts")]
#[case::three_dots(&["--range", "learning_rate=1e-3...1e-2"], "expected KEY=LOW..HIGH")]
fn what_cannot_be_tuned_is_refused(#[case] args: &[&str], #[case] why: &str) {
    let folder = Folder::new();
    let outcome = tune(&folder, args);
    assert!(outcome.code == 2 && outcome.err.contains(why), "{}: {}", outcome.code, outcome.err);
    assert!(!folder.path("tuned.yaml").exists());
}
