//! Run folders that hold something of somebody's, or lead out of themselves: nothing is written through a link, nothing is
//! waited for, and nothing that is not ours is replaced or removed.

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::json;

use crate::harness::{Folder, Outcome, collimate, train};
use crate::small_model::{adapter, model, model_arg};

const SETTINGS: [&str; 5] =
    ["max_steps=4", "save_steps=2", "per_device_train_batch_size=2", "learning_rate=1e-3", "sample_prompts=0"];

/// Rows of prompts with two responses.
pub(super) fn data(folder: &Folder) -> String {
    let row = |i: usize| {
        let responses = [json!({"content": format!("{}", 2 * i), "reward": 1}), json!({"content": "7 6", "reward": 0})];
        json!({"prompt": format!("{i} * 2"), "responses": responses}).to_string() + "\n"
    };
    folder.write("data.jsonl", (2..10).map(row).collect::<String>())
}

fn run_with(folder: &Folder, name: &str, more: &[&str], resume: bool) -> Outcome {
    let (data, output) = (data(folder), folder.arg(name));
    let settings: Vec<&str> = SETTINGS.iter().chain(more).copied().collect();
    let mut args = train(model_arg(), &data, &output, &settings);
    args.extend(resume.then_some("--resume"));
    collimate(&args)
}

fn run(folder: &Folder, name: &str, resume: bool) -> Outcome {
    run_with(folder, name, &[], resume)
}

/// Checks that a command was refused before it computed anything, with a message that has these parts.
pub(super) fn refused(outcome: &Outcome, parts: &[&str]) {
    assert!(outcome.code == 1 || outcome.code == 2, "{}: {}", outcome.code, outcome.err);
    for part in parts {
        assert!(outcome.err.contains(part), "{part:?} is not in: {}", outcome.err);
    }
    assert!(!outcome.err.contains("tokenizing"), "{}", outcome.err);
}

/// Every file of a folder, by name; links are not followed.
pub(super) fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name().display().to_string());
        let kind = entry.file_type().expect("a type");
        match (kind.is_dir(), kind.is_file()) {
            (true, _) => {
                all.extend(contents(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)))
            }
            (_, true) => all.push((name, fs::read(&path).expect("a file"))),
            _ => all.push((name, b"no plain file".to_vec())),
        }
    }
    all.sort();
    all
}

#[rstest]
fn a_run_does_not_write_into_the_folders_that_it_reads(#[values(false, true)] resume: bool) {
    let folder = Folder::new();
    let (base, start) = (folder.copy(model(), "m"), folder.copy(adapter(), "a"));
    let before = (contents(&folder.path("m")), contents(&folder.path("a")));
    let data = data(&folder);
    let into = |output: &str, more: &[&str]| {
        let settings: Vec<&str> = SETTINGS.iter().chain(more).copied().collect();
        let mut args = train(&base, &data, output, &settings);
        args.extend(resume.then_some("--resume"));
        collimate(&args)
    };
    refused(&into(&base, &[]), &["it is the folder of the model, which is read; choose another --output"]);
    refused(&into(&format!("{base}/../m/."), &["use_peft=true"]), &["it is the folder of the model"]);
    let from = format!("adapter={start}");
    refused(&into(&start, &["use_peft=true", &from]), &["it is the folder of the adapter"]);
    assert!(before == (contents(&folder.path("m")), contents(&folder.path("a"))));
}

#[rstest]
#[case("README.md")]
#[case("config.json")]
#[case("tokenizer.json")]
#[case("model.safetensors")]
#[case("recipe.yaml")]
fn a_run_does_not_write_over_somebodys_files(#[case] name: &str) {
    let folder = Folder::new();
    folder.write(&format!("out/{name}"), "mine: true\n");
    folder.write("out/notes.txt", "mine");
    let before = contents(&folder.path("out"));
    refused(
        &run(&folder, "out", false),
        &[&format!("it holds \"{name}\""), "choose another --output, or move it away"],
    );
    assert!(before == contents(&folder.path("out")));
    fs::remove_file(folder.path("out").join(name)).expect("a file");
    assert_eq!(run(&folder, "out", false).code, 0);
    assert_eq!(folder.read("out/notes.txt"), "mine");
}

/// Whatever is called so and is a link: nothing outside is read, written or removed.
#[cfg(unix)]
#[rstest]
fn a_link_in_a_run_folder_is_named_and_what_it_leads_to_stays(
    #[values(
        ".lock",
        "metrics.jsonl",
        "recipe.yaml",
        "report.html",
        "README.md",
        "run.json",
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "checkpoint-4"
    )]
    name: &str,
) {
    let folder = Folder::new();
    assert_eq!(run(&folder, "run", false).code, 0);
    let path = folder.path("run").join(name);
    // To a file of the same content, so that only the link is wrong.
    let victim = folder.path("victim");
    match path.exists() {
        true => fs::rename(&path, &victim).expect("a rename"),
        false => fs::write(&victim, "").expect("a file"),
    }
    std::os::unix::fs::symlink("../victim", &path).expect("a link");
    let before = (contents(&folder.path("run")), victim.is_file().then(|| fs::read(&victim).expect("a file")));
    for resume in [true, false] {
        let outcome = run_with(&folder, "run", &["max_steps=6"], resume);
        let named = if resume { name } else { "run" };
        refused(&outcome, &[named]);
        assert!(before.0 == contents(&folder.path("run")));
        assert!(before.1 == victim.is_file().then(|| fs::read(&victim).expect("a file")));
    }
}

#[cfg(unix)]
#[test]
fn events_are_not_written_through_a_link() {
    let folder = Folder::new();
    for name in ["out", "run"] {
        fs::create_dir(folder.path(name)).expect("a folder");
    }
    std::os::unix::fs::symlink("../out", folder.path("run/tensorboard")).expect("a link");
    refused(&run_with(&folder, "run", &["tensorboard=true"], false), &["tensorboard"]);
    assert_eq!(contents(&folder.path("out")).len(), 0);
    assert_eq!(run(&folder, "other", false).code, 0);
    std::os::unix::fs::symlink("../out", folder.path("other/tensorboard")).expect("a link");
    let outcome = collimate(&["report", &folder.arg("other"), "--tensorboard"]);
    assert!(outcome.code != 0 && outcome.err.contains("tensorboard"), "{}", outcome.err);
    assert_eq!(contents(&folder.path("out")).len(), 0);
}

/// A pipe would be waited for, and a device read until memory is gone.
#[cfg(unix)]
#[rstest]
fn what_is_no_plain_file_in_a_checkpoint_is_damage(
    #[values("checksums.json", "trainer_state.json", "recipe.yaml", "model.safetensors")] name: &str,
    #[values("pipe", "/dev/zero")] kind: &str,
) {
    let folder = Folder::new();
    assert_eq!(run(&folder, "run", false).code, 0);
    let path = folder.path("run/checkpoint-4").join(name);
    fs::remove_file(&path).expect("a file");
    match kind {
        "pipe" => assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success()),
        target => std::os::unix::fs::symlink(target, &path).expect("a link"),
    }
    let outcome = run_with(&folder, "run", &["max_steps=6"], true);
    // The run would have to replace the folder, which holds something that is not its own.
    refused(&outcome, &["checkpoint-4", name, "move it away"]);
    assert!(fs::symlink_metadata(&path).is_ok());
    fs::remove_dir_all(folder.path("run/checkpoint-4")).expect("a folder");
    let outcome = run_with(&folder, "run", &["max_steps=6"], true);
    assert!(outcome.code == 0 && outcome.err.contains("resuming after step 2"), "{}", outcome.err);
}

#[rstest]
#[case("{}")]
#[case("{\"trainer_state.json\": null}")]
fn a_list_of_checksums_with_gaps_is_damage(#[case] list: &str) {
    let folder = Folder::new();
    assert_eq!(run(&folder, "run", false).code, 0);
    let whole = fs::read(folder.path("run/model.safetensors")).expect("weights");
    folder.write("run/checkpoint-4/checksums.json", list);
    folder.write("run/checkpoint-4/model.safetensors", "torn");
    let outcome = run(&folder, "run", true);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.err.contains("checkpoint-4: damaged, passed over: checksums.json"), "{}", outcome.err);
    assert!(outcome.err.contains("resuming after step 2"), "{}", outcome.err);
    assert!(whole == fs::read(folder.path("run/model.safetensors")).expect("weights"));
}

#[rstest]
fn a_users_file_under_a_checkpoints_name_is_never_touched(#[values(false, true)] resume: bool) {
    let folder = Folder::new();
    if resume {
        assert_eq!(run(&folder, "run", false).code, 0);
    }
    folder.write("run/checkpoint-7", "notes");
    let outcome = run_with(&folder, "run", &["max_steps=8", "save_steps=1", "save_total_limit=1"], resume);
    refused(&outcome, &["checkpoint-7: it is not a folder; a run needs this name for a checkpoint: move it away"]);
    assert_eq!(folder.read("run/checkpoint-7"), "notes");
}
