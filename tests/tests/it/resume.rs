//! Resumed runs.

use std::fs;

use collimate_report::metrics::CLOCKED;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, Outcome, collimate, succeed, train};
use crate::small_model::model_arg;

/// The metrics of a run without time and memory.
pub(crate) fn timeless(folder: &Folder, run: &str) -> Vec<Value> {
    let mut rows = folder.rows(&format!("{run}/metrics.jsonl"));
    for row in &mut rows {
        let row = row.as_object_mut().expect("a row");
        for name in CLOCKED {
            // Rows of evaluations have none of them.
            assert_eq!(row.shift_remove(name).is_some(), row.contains_key("grad_norm"), "{name} in {row:?}");
        }
    }
    rows
}

/// Twelve distinct groups of three responses.
pub(crate) fn groups(folder: &Folder) -> String {
    let response = |content: String, reward: f64| json!({"content": content, "reward": reward});
    let group = |i: i32| {
        let responses = [
            response(format!("{}", 7 * i), 1.0),
            response(format!("{} or so", 7 * i), 0.5),
            response(format!("{i}"), 0.0),
        ];
        json!({"prompt": format!("What is 7 times {i}?"), "responses": responses}).to_string() + "\n"
    };
    folder.write("groups.jsonl", (2..14).map(group).collect::<String>())
}

/// Takes a run into `whole`, and one into `broken` that goes on where a process stopped that was killed while writing its sixth row,
/// after `checkpoint-3`. Both end with the same rows and bytes. `run` starts one into a folder, with more arguments.
pub(crate) fn assert_resumed_ends_the_same(folder: &Folder, weights: &str, run: impl Fn(&str, &[&str]) -> Outcome) {
    run("whole", &[]);
    folder.copy(&folder.path("whole/checkpoint-3"), "broken/checkpoint-3");
    let metrics = folder.read("whole/metrics.jsonl");
    let end = metrics.match_indices('\n').nth(4).expect("five rows").0;
    folder.write("broken/metrics.jsonl", &metrics[..end + 20]);

    let outcome = run("broken", &["--resume"]);
    assert!(outcome.err.contains("resuming after step 3"), "{}", outcome.err);
    assert_eq!(timeless(folder, "whole"), timeless(folder, "broken"));
    let bytes = |run: &str| fs::read(folder.path(run).join(weights)).expect("the trained weights");
    assert!(bytes("whole") == bytes("broken"), "{weights} differs");
}

#[rstest]
#[case::all_weights(&[], "model.safetensors")]
#[case::adapter(&["use_peft=true", "lora_dropout=0.1"], "adapter_model.safetensors")]
fn a_resumed_run_ends_with_the_same_bytes(#[case] settings: &[&str], #[case] weights: &str) {
    let folder = Folder::new();
    let (data, model) = (groups(&folder), model_arg());
    let mut all = settings.to_vec();
    all.extend(["max_steps=7", "save_steps=3", "per_device_train_batch_size=2", "learning_rate=1e-3"]);
    assert_resumed_ends_the_same(&folder, weights, |output, more| {
        let output = folder.arg(output);
        let mut args = train(model, &data, &output, &all);
        args.extend(more);
        succeed(&args)
    });
}

#[rstest]
#[case::all_weights(&[], "model_name_or_path")]
#[case::adapter(&["use_peft=true", "lora_r=4"], "adapter")]
fn a_finished_run_goes_on_with_more_steps(#[case] settings: &[&str], #[case] start: &str) {
    let folder = Folder::new();
    let (data, model, output) = (groups(&folder), model_arg(), folder.arg("run"));
    let with = |steps: &str| {
        let all = [settings, &["per_device_train_batch_size=2", "learning_rate=1e-3", steps]].concat();
        succeed(&train(model, &data, &folder.arg(steps), &all));
        folder.rows(&format!("{steps}/metrics.jsonl"))
    };
    let (short, long) = (with("max_steps=4"), with("max_steps=7"));
    let all = [settings, &["per_device_train_batch_size=2", "learning_rate=1e-3", "max_steps=4"]].concat();
    succeed(&train(model, &data, &output, &all));
    let resume = |more: &[&str]| {
        let args = [&["train", "--resume", "--output", &output], more].concat();
        collimate(&args)
    };

    let outcome = resume(&["--set", "max_steps=7"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let said = "max_steps gives the run 7 steps, before it was 4: the learning rate goes on as if it had always been 7";
    assert!(outcome.err.contains(said), "{}", outcome.err);
    assert!(outcome.err.contains("training with nca (7, 4 done)"), "{}", outcome.err);
    let rates = |rows: &[Value]| rows.iter().map(|row| row["learning_rate"].as_f64()).collect::<Vec<_>>();
    let rows = folder.rows("run/metrics.jsonl");
    assert_eq!(rates(&rows[..4]), rates(&short));
    assert_eq!(rates(&rows[4..]), rates(&long)[4..]);
    assert!(folder.path("run/checkpoint-7").is_dir() && folder.path("run/checkpoint-4").is_dir());

    // The folder's recipe is now that of seven steps.
    let finished = resume(&[]);
    assert_eq!(finished.code, 0, "{}", finished.err);
    for part in ["the run is finished after 7 steps", "raise max_steps", &format!("set {start} to {output}")] {
        assert!(finished.err.contains(part), "{part:?} is not in {}", finished.err);
    }
    assert_eq!(folder.rows("run/metrics.jsonl"), rows);

    let fewer = resume(&["--set", "max_steps=5"]);
    assert_eq!(fewer.code, 2, "{}", fewer.err);
    assert!(fewer.err.contains("the run has done 7 steps, and max_steps gives it 5"), "{}", fewer.err);
    assert!(fewer.err.contains(&format!("set {start} to {output}")), "{}", fewer.err);
    let other = resume(&["--set", "max_steps=9", "--set", "learning_rate=1e-2"]);
    assert_eq!(other.code, 1, "{}", other.err);
    assert!(other.err.contains("another recipe: learning_rate: 0.01 (there 0.001);"), "{}", other.err);
    assert_eq!(folder.rows("run/metrics.jsonl"), rows);
}

#[test]
fn the_time_of_a_checkpoint_changes_nothing_else() {
    let folder = Folder::new();
    let (data, model) = (groups(&folder), model_arg());
    for (name, minutes) in [("never", "save_minutes=0"), ("always", "save_minutes=0.000001")] {
        let settings =
            ["max_steps=7", "save_steps=3", "save_total_limit=2", "eval_fraction=0.3", "eval_steps=2", minutes];
        succeed(&train(model, &data, &folder.arg(name), &settings));
    }
    assert_eq!(timeless(&folder, "never"), timeless(&folder, "always"));
    let names = |run: &str| {
        let entries = fs::read_dir(folder.path(run)).expect("a folder").flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().display().to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names("never"), names("always"));
    assert!(names("always").contains(&"checkpoint-6".to_owned()), "{:?}", names("always"));
    for file in ["model.safetensors", "checkpoint-6/optimizer.safetensors", "checkpoint-7/model.safetensors"] {
        let bytes = |run: &str| fs::read(folder.path(run).join(file)).expect("a file");
        assert!(bytes("never") == bytes("always"), "{file} differs");
    }
}

#[rstest]
#[case::no_folder("none", "it does not exist")]
#[case::no_run("empty", "it has no recipe.yaml")]
fn a_folder_without_a_run_is_not_resumed(#[case] name: &str, #[case] why: &str) {
    let folder = Folder::new();
    fs::create_dir(folder.path("empty")).expect("a folder");
    let output = folder.arg(name);
    let set = format!("output_dir={output}");
    for named in [vec!["--output", &output], vec!["--set", &set], vec!["--output_dir", &output]] {
        let outcome = collimate(&[&["train", "--resume"], named.as_slice()].concat());
        assert_eq!(outcome.code, 2, "{}", outcome.err);
        let expected = format!("{output}: there is no run in that folder to resume: {why}");
        assert!(outcome.err.contains(&expected), "{}", outcome.err);
    }
    let outcome = collimate(&["train", "--resume"]);
    assert!(outcome.err.contains("give it with --output"), "{}", outcome.err);
}
