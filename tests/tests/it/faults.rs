//! Broken disks, folders and numbers: a clear error, exit code 1, and nothing lost.

use std::fs;
use std::path::Path;

use collimate_files::FolderLock;
use collimate_hf::HostTensor;
use rstest::rstest;
use serde_json::json;

use crate::changed_model::changed_model;
use crate::harness::{Folder, Outcome, collimate, succeed, train};
use crate::small_model::model_arg;

/// Rows of prompts with three responses.
fn data(folder: &Folder) -> String {
    let response = |i: usize, k: usize| json!({"content": format!("{}", i * (k + 3)), "reward": 1.0 / (k + 1) as f64});
    let row = |i: usize| {
        let responses: Vec<_> = (0..3).map(|k| response(i, k)).collect();
        json!({"prompt": format!("What is 3 times {i}?"), "responses": responses}).to_string() + "\n"
    };
    folder.write("data.jsonl", (2..14).map(row).collect::<String>())
}

const SETTINGS: [&str; 4] = ["max_steps=6", "save_steps=2", "per_device_train_batch_size=2", "learning_rate=1e-3"];

/// A run of six steps; `more` has further settings.
fn run(folder: &Folder, name: &str, more: &[&str], resume: bool) -> Outcome {
    let (data, output) = (data(folder), folder.arg(name));
    let settings: Vec<&str> = SETTINGS.iter().chain(more).copied().collect();
    let mut args = train(model_arg(), &data, &output, &settings);
    args.extend(resume.then_some("--resume"));
    collimate(&args)
}

/// Checks that a run failed with exit code 1 and this message.
fn failed(outcome: &Outcome, parts: &[&str]) {
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    for part in parts {
        assert!(outcome.err.contains(part), "{part:?} is not in: {}", outcome.err);
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file of a folder, by name.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name().display().to_string());
        match path.is_dir() {
            true => all.extend(contents(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes))),
            false => all.push((name, bytes(&path))),
        }
    }
    all.sort();
    all
}

#[test]
fn two_runs_in_one_folder_are_refused() {
    let folder = Folder::new();
    let lock = FolderLock::acquire(&folder.path("run")).expect("a lock");
    let here = format!("another run is writing here (process {})", std::process::id());
    failed(&run(&folder, "run", &[], false), &[&folder.arg("run"), &here]);
    failed(&run(&folder, "run", &[], true), &[&here]);
    drop(lock);
    assert_eq!(run(&folder, "run", &[], false).code, 0);
}

#[test]
fn a_finished_run_is_not_written_over() {
    let folder = Folder::new();
    assert_eq!(run(&folder, "run", &[], false).code, 0);
    let before = contents(&folder.path("run"));
    failed(
        &run(&folder, "run", &[], false),
        &["holds a run already; use --resume to continue it, or another --output"],
    );
    assert!(before == contents(&folder.path("run")));
    assert!(!before.iter().any(|(name, _)| name.contains(".lock") || name.contains(".tmp")), "{before:?}");
}

#[rstest]
#[case::file("data.jsonl/run", "data.jsonl/run")]
#[case::no_such_place("/proc/collimate", "/proc/collimate")]
fn a_folder_that_cannot_be_written_is_named_before_any_compute(#[case] output: &str, #[case] named: &str) {
    let folder = Folder::new();
    let outcome = run(&folder, output, &[], false);
    failed(&outcome, &[named, "cannot be written"]);
    assert!(!outcome.err.contains("tokenizing"), "{}", outcome.err);
}

#[test]
fn a_folder_of_another_run_is_refused() {
    let folder = Folder::new();
    assert_eq!(run(&folder, "run", &[], false).code, 0);
    let before = contents(&folder.path("run"));
    let outcome = run(&folder, "run", &["learning_rate=1e-4", "weight_decay=0.1"], true);
    failed(&outcome, &["checkpoint-6", "another recipe", "learning_rate: 0.0001 (there 0.001)", "weight_decay"]);
    let row =
        json!({"prompt": "Another?", "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]});
    let more = fs::read_to_string(folder.path("data.jsonl")).expect("data") + &row.to_string() + "\n";
    let path = folder.write("more.jsonl", more);
    let output = folder.arg("run");
    let mut args = train(model_arg(), &path, &output, &SETTINGS);
    args.push("--resume");
    failed(&collimate(&args), &["checkpoint-6", "other data than ", "more.jsonl"]);
    // The same file name with other rows.
    fs::copy(&path, folder.path("data.jsonl")).expect("a copy");
    let path = folder.arg("data.jsonl");
    let mut args = train(model_arg(), &path, &output, &SETTINGS);
    args.push("--resume");
    failed(&collimate(&args), &["checkpoint-6", "other data"]);
    assert!(before == contents(&folder.path("run")));
}

#[rstest]
fn a_torn_checkpoint_is_passed_over_and_the_run_ends_with_the_same_bytes(
    #[values("model.safetensors", "optimizer.safetensors", "trainer_state.json", "recipe.yaml", "checksums.json")] file: &str,
    #[values(0.0, 0.37, 0.9)] keep: f64,
) {
    let folder = Folder::new();
    assert_eq!(run(&folder, "run", &[], false).code, 0);
    let whole =
        [bytes(&folder.path("run/model.safetensors")), bytes(&folder.path("run/checkpoint-6/optimizer.safetensors"))];
    let torn = folder.path("run/checkpoint-6").join(file);
    let content = bytes(&torn);
    fs::write(&torn, &content[..(content.len() as f64 * keep) as usize]).expect("a file");
    let outcome = run(&folder, "run", &[], true);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.err.contains("checkpoint-6: damaged, passed over: "), "{}", outcome.err);
    assert!(outcome.err.contains("resuming after step 4"), "{}", outcome.err);
    assert!(whole[0] == bytes(&folder.path("run/model.safetensors")));
    assert!(whole[1] == bytes(&folder.path("run/checkpoint-6/optimizer.safetensors")));
}

#[test]
fn lost_rows_of_metrics_are_told_and_the_weights_are_the_same() {
    let folder = Folder::new();
    let (output, data) = (folder.arg("run"), data(&folder));
    let settings = [&SETTINGS[..], &["save_total_limit=1"]].concat();
    succeed(&train(model_arg(), &data, &output, &settings));
    let whole = bytes(&folder.path("run/model.safetensors"));
    let metrics = folder.read("run/metrics.jsonl");
    folder.write("run/metrics.jsonl", &metrics[..metrics.len() / 2]);
    let mut args = train(model_arg(), &data, &output, &settings);
    args.push("--resume");
    let outcome = succeed(&args);
    assert!(outcome.err.contains("metrics.jsonl: 3 of 6 rows are damaged or missing"), "{}", outcome.err);
    assert!(whole == bytes(&folder.path("run/model.safetensors")));
    assert_eq!(folder.rows("run/metrics.jsonl").len(), 3);
}

#[test]
fn with_every_checkpoint_torn_nothing_is_begun_again_unasked() {
    let folder = Folder::new();
    assert_eq!(run(&folder, "run", &[], false).code, 0);
    for step in [2, 4, 6] {
        let path = folder.path(&format!("run/checkpoint-{step}/optimizer.safetensors"));
        let content = bytes(&path);
        fs::write(path, &content[1..]).expect("a file");
    }
    let before = contents(&folder.path("run"));
    failed(&run(&folder, "run", &[], true), &["every checkpoint is damaged", "checkpoint-2", "optimizer.safetensors"]);
    assert!(before == contents(&folder.path("run")));
}

#[test]
fn what_a_killed_process_left_is_cleared_away() {
    let folder = Folder::new();
    assert_eq!(run(&folder, "run", &["max_steps=4"], false).code, 0);
    folder.write("run/.checkpoint-6.999.tmp/model.safetensors", "half");
    folder.write("run/.README.md.999.tmp", "half");
    folder.write("run/.lock", "999\n");
    assert_eq!(run(&folder, "run", &["max_steps=4"], true).code, 0);
    let left: Vec<_> = contents(&folder.path("run")).into_iter().map(|(name, _)| name).collect();
    assert!(!left.iter().any(|name| name.starts_with('.')), "{left:?}");
}

/// Trains a changed model without a reference, so that the policy breaks first.
fn run_changed(folder: &Folder, model: &str, more: &[&str]) -> Outcome {
    let (data, output) = (data(folder), folder.arg("run"));
    let settings: Vec<&str> = SETTINGS.iter().chain(&["shuffle=false", "objective=sft"]).chain(more).copied().collect();
    collimate(&train(model, &data, &output, &settings))
}

/// Every log-prob overflows.
pub(crate) fn overflow(name: &str, tensor: &mut HostTensor) {
    if name == "model.norm.weight" {
        tensor.data.fill(3e38);
    }
}

/// Keeps the logits, but makes their gradient with respect to the last norm overflow float32.
fn steep(name: &str, tensor: &mut HostTensor) {
    match name {
        "model.norm.weight" => tensor.data.iter_mut().for_each(|x| *x *= 1e-25),
        "lm_head.weight" => tensor.data.iter_mut().for_each(|x| *x *= 1e25),
        _ => {}
    }
}

#[rstest]
#[case::log_prob(overflow, "the log-prob of response 0 of group 0 (")]
#[case::gradient(steep, "the gradient of group 0 (")]
fn a_figure_that_is_not_finite_names_step_group_and_line(
    #[case] change: fn(&str, &mut HostTensor),
    #[case] culprit: &str,
) {
    let folder = Folder::new();
    let model = changed_model(&folder, change);
    let outcome = run_changed(&folder, &model, &[]);
    failed(&outcome, &["step 1: ", culprit, "data.jsonl:1) is not finite", "nothing was trained yet"]);
    fs::remove_dir_all(folder.path("run")).expect("a folder");
    let outcome = run_changed(&folder, &model, &["on_nonfinite=skip"]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.err.contains("step 6: left out, "), "{}", outcome.err);
    assert!(outcome.err.contains("6 steps were left out"), "{}", outcome.err);
    // Nothing changed.
    let weights = |folder: &Path| bytes(&folder.join("model.safetensors"));
    assert!(weights(Path::new(&model)) == weights(&folder.path("run")));
}

#[test]
fn the_state_before_a_broken_step_is_kept() {
    let folder = Folder::new();
    // One step at this rate leaves finite weights whose next forward pass overflows.
    let all = ["learning_rate=1e37", "lr_scheduler_type=constant", "warmup_ratio=0", "save_steps=0"];
    let outcome = run_changed(&folder, model_arg(), &all);
    failed(&outcome, &["step 2: ", "is not finite", "its state is in ", "checkpoint-1"]);
    assert!(folder.path("run/checkpoint-1/checksums.json").is_file());
}

#[rstest]
#[case("save_steps=0")]
#[case("save_steps=1")]
#[case("on_nonfinite=skip")]
fn broken_weights_stop_a_run_and_are_never_saved(#[case] setting: &str) {
    let folder = Folder::new();
    let all = ["learning_rate=1e39", "lr_scheduler_type=constant", "warmup_ratio=0", setting];
    let outcome = run_changed(&folder, model_arg(), &all);
    failed(&outcome, &["after step 1: the weight ", "is not finite", "learning rate"]);
    assert!(!folder.path("run/checkpoint-1").exists() && !folder.path("run/model.safetensors").exists());
}

#[test]
fn a_model_with_broken_weights_is_refused() {
    let folder = Folder::new();
    let mark = 12_345.678_f32;
    let model = changed_model(&folder, |name, tensor| {
        if name == "model.norm.weight" {
            tensor.data[3] = mark;
        }
    });
    let path = folder.path("changed/model.safetensors");
    let mut file = bytes(&path);
    let at = file.windows(4).position(|word| word == mark.to_le_bytes()).expect("the mark");
    file[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, file).expect("a file");
    let outcome = run_changed(&folder, &model, &[]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("model.safetensors: tensor \"model.norm.weight\": value 3 is NaN"), "{}", outcome.err);
}

#[test]
fn a_fall_of_the_chosen_likelihood_is_told_in_log_and_report() {
    let folder = Folder::new();
    let (data, output) = (data(&folder), folder.arg("run"));
    let settings = ["objective=dpo", "max_steps=60", "learning_rate=0.3", "alarm_chosen_drop=0.5"];
    let outcome = succeed(&train(model_arg(), &data, &output, &settings));
    let (rows, report) = (folder.rows("run/metrics.jsonl"), folder.read("run/report.html"));
    let lowest = rows.iter().filter_map(|row| row["log_ratios/chosen"].as_f64()).fold(0.0, f64::min);
    assert!(lowest < -1.0, "the test's run does not lose likelihood: {lowest}");
    assert!(outcome.err.contains("warning: the chosen responses lose likelihood"), "{}", outcome.err);
    assert!(report.contains("the chosen responses lose likelihood"));
    let silent = folder.arg("silent");
    let outcome = succeed(&train(model_arg(), &data, &silent, &[&settings[..3], &["alarm_chosen_drop=0"]].concat()));
    assert!(!outcome.err.contains("lose likelihood"), "{}", outcome.err);
    assert!(!folder.read("silent/report.html").contains("lose likelihood"));
}
