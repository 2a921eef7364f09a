//! Runs and loops whose folder has another name now, and data that is somewhere else: contents decide, not paths.
#![cfg(unix)]

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::json;

use crate::beginnings::{SETTINGS, rows};
use crate::harness::Folder;
use crate::process::Process;
use crate::small_model::{model, model_arg};

/// Words of a command, and settings for `--set`.
fn words(words: &[&str], settings: &[&str]) -> Vec<String> {
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    words.iter().copied().chain(settings).map(str::to_owned).collect()
}

fn train_words(model: &str, data: &str, output: &str, more: &[&str]) -> Vec<String> {
    let all = [&SETTINGS[..], &["reference_cache=false"], more].concat();
    words(&["train", "--model", model, "--data", data, "--output", output, "--objective", "nca"], &all)
}

fn and(mut arguments: Vec<String>, more: &[&str]) -> Vec<String> {
    arguments.extend(more.iter().map(|word| (*word).to_owned()));
    arguments
}

/// Moves a finished run to the state that a kill after its second step leaves.
fn cut(run: &Path) {
    fs::remove_dir_all(run.join("checkpoint-4")).expect("a checkpoint");
    for name in ["model.safetensors", "README.md", "report.html"] {
        fs::remove_file(run.join(name)).expect("a file");
    }
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A run of `data.jsonl` in `here`, whole and cut; returns the bytes of its weights.
fn begun(folder: &Folder, arguments: &[String]) -> Vec<u8> {
    folder.write("here/data.jsonl", rows());
    let here = folder.path("here");
    Process::start(&here, arguments).succeed();
    let weights = bytes(&here.join("run/model.safetensors"));
    cut(&here.join("run"));
    weights
}

#[rstest]
#[case::dotted("run", "here", "./run/")]
#[case::renamed("other", "here", "other")]
#[case::moved_away("../away/other", "here", "../away/other")]
#[case::from_another_folder("run", "away", "../here/run")]
#[case::renamed_and_from_another_folder("other", "away", "../here/./other/")]
fn a_run_is_resumed_under_any_name(#[case] to: &str, #[case] from: &str, #[case] output: &str) {
    let folder = Folder::new();
    let whole = begun(&folder, &train_words(model_arg(), "data.jsonl", "run", &[]));
    fs::create_dir(folder.path("away")).expect("a folder");
    if to != "run" {
        fs::rename(folder.path("here/run"), folder.path("here").join(to)).expect("a rename");
    }
    let log = {
        let data = folder.arg("here/data.jsonl");
        // With the folder alone; one that has moved away from its data is told where that is.
        let told: &[&str] = if to.starts_with("..") { &["--data", &data] } else { &[] };
        let short = and(words(&["train", "--output", output, "--resume"], &[]), told);
        let (code, log) = Process::start(&folder.path(from), &short).wait();
        assert_eq!(code, Some(0), "{log}");
        log
    };
    assert!(log.contains("resuming after step 2"), "{log}");
    let run = folder.path(from).join(output);
    assert!(bytes(&run.join("model.safetensors")) == whole);
    // And with all options.
    cut(&run);
    let full = and(train_words(model_arg(), &folder.arg("here/data.jsonl"), output, &[]), &["--resume"]);
    let (code, log) = Process::start(&folder.path(from), &full).wait();
    assert!(code == Some(0) && log.contains("resuming after step 2"), "{log}");
    assert!(bytes(&run.join("model.safetensors")) == whole);
}

#[rstest]
#[case::all_weights(&["objective=sft"], "model.safetensors")]
#[case::adapter(&["use_peft=true", "lora_r=2", "objective=sft"], "adapter_model.safetensors")]
fn what_a_run_reads_in_its_own_folder_moves_with_it(#[case] settings: &[&str], #[case] weights: &str) {
    let folder = Folder::new();
    let (here, run) = (folder.path("here"), folder.path("here/run"));
    folder.copy(model(), "here/run/base");
    folder.write("here/run/data.jsonl", rows());
    Process::start(&here, &train_words("run/base", "run/data.jsonl", "run", settings)).succeed();
    let whole = bytes(&run.join(weights));
    fs::remove_dir_all(run.join("checkpoint-4")).expect("a checkpoint");
    fs::rename(&run, here.join("moved")).expect("a rename");
    let (code, log) = Process::start(&here, &words(&["train", "--output", "moved", "--resume"], &[])).wait();
    assert!(code == Some(0) && log.contains("resuming after step 2"), "{log}");
    assert!(bytes(&here.join("moved").join(weights)) == whole);
    // Another model of that name is another model, whatever the objective compares with.
    fs::remove_dir_all(here.join("moved/checkpoint-4")).expect("a checkpoint");
    let config = folder.read("here/moved/base/config.json");
    folder.write("here/moved/base/config.json", config.replace("1e-5", "1e-4").replace("0.00001", "0.0001"));
    let (code, log) = Process::start(&here, &words(&["train", "--output", "moved", "--resume"], &[])).wait();
    assert!(code == Some(1) && log.contains("other weights of the model"), "{log}");
}

#[test]
fn data_with_the_same_content_resumes_from_anywhere() {
    let folder = Folder::new();
    let whole = begun(&folder, &train_words(model_arg(), "data.jsonl", "run", &["eval_data=data.jsonl"]));
    let here = folder.path("here");
    fs::rename(here.join("data.jsonl"), folder.path("moved.jsonl")).expect("a rename");
    let short = words(&["train", "--output", "run", "--resume"], &[]);
    let (code, log) = Process::start(&here, &short).wait();
    assert!(code == Some(2) && log.contains("data.jsonl"), "{log}");
    let other = folder.write("other.jsonl", rows().replace("times 5", "times five"));
    let (code, log) = Process::start(&here, &and(short.clone(), &["--data", &other, "--eval-data", &other])).wait();
    assert!(code == Some(1) && log.contains("other data than ") && log.contains("other.jsonl"), "{log}");
    let moved = ["--data", "../moved.jsonl", "--eval-data", "../moved.jsonl"];
    let (code, log) = Process::start(&here, &and(short, &moved)).wait();
    assert!(code == Some(0) && log.contains("resuming after step 2"), "{log}");
    assert!(bytes(&here.join("run/model.safetensors")) == whole);
}

/// A loop of two rounds in `loop`, with relative names.
fn loop_words(prompts: &str, output: &str, more: &[&str]) -> Vec<String> {
    let settings = [
        "reference_cache=false",
        "per_device_train_batch_size=2",
        "learning_rate=1e-3",
        "sample_prompts=0",
        "save_steps=1",
    ];
    let program = "while read -r line; do echo $((${#line} % 7)); done";
    let arguments = words(
        &[
            "loop",
            "--model",
            model_arg(),
            "--prompts",
            prompts,
            "--rounds",
            "2",
            "--num-responses",
            "3",
            "--max-new-tokens",
            "6",
            "--objective",
            "nca",
            "--shell",
            "--command",
            program,
            "--output",
            output,
        ],
        &settings,
    );
    and(arguments, more)
}

#[rstest]
#[case::dotted("loop", "here", "./loop/")]
#[case::renamed("renamed", "here", "renamed")]
#[case::from_another_folder("loop", "away", "../here/loop")]
#[case::absolute("loop", "here", "ABSOLUTE")]
#[case::adapter("other", "here", "other")]
fn a_loop_is_resumed_under_any_name(#[case] to: &str, #[case] from: &str, #[case] output: &str) {
    let folder = Folder::new();
    let settings: &[&str] = if to == "other" { &["--set", "use_peft=true", "--reference", "start"] } else { &[] };
    let prompts = (2..6).map(|i| json!({"prompt": format!("What is 3 times {i}?")}).to_string() + "\n");
    folder.write("here/prompts.jsonl", prompts.collect::<String>());
    fs::create_dir(folder.path("away")).expect("a folder");
    let here = folder.path("here");
    Process::start(&here, &loop_words("prompts.jsonl", "loop", settings)).succeed();
    let weights = if to == "other" { "adapter_model.safetensors" } else { "model.safetensors" };
    let whole = bytes(&here.join("loop/round-2").join(weights));
    // Killed in the second round's training.
    for name in ["loop.jsonl", "round-2/trained.json", &format!("round-2/{weights}")] {
        fs::remove_file(here.join("loop").join(name)).expect("a file");
    }
    fs::remove_dir_all(here.join("loop/round-2/checkpoint-2")).expect("a checkpoint");
    if to != "loop" {
        fs::rename(here.join("loop"), here.join(to)).expect("a rename");
    }
    let absolute = folder.arg("here/loop");
    let output = if output == "ABSOLUTE" { &absolute } else { output };
    let prompts = if from == "away" { "../here/prompts.jsonl" } else { "prompts.jsonl" };
    let resumed = and(loop_words(prompts, output, settings), &["--resume"]);
    let (code, log) = Process::start(&folder.path(from), &resumed).wait();
    assert!(code == Some(0), "{log}");
    assert!(bytes(&here.join(to).join("round-2").join(weights)) == whole);
    let other = and(resumed, &["--set", "learning_rate=1e-2"]);
    let (code, log) = Process::start(&folder.path(from), &other).wait();
    assert!(code == Some(1) && log.contains("learning_rate is 0.01, there 0.001"), "{log}");
}

#[test]
fn a_loop_without_its_settings_is_not_mixed_with_another() {
    let folder = Folder::new();
    let prompts = folder.write("prompts.jsonl", "{\"prompt\": \"What is 3 times 4?\"}\n");
    let here = folder.path("here");
    Process::start(&here, &loop_words(&prompts, "loop", &[])).succeed();
    fs::remove_file(here.join("loop/loop.json")).expect("a file");
    for more in [&[][..], &["--resume"]] {
        let (code, log) = Process::start(&here, &loop_words(&prompts, "loop", more)).wait();
        assert!(code == Some(1) && log.contains("loop.json: is missing, and round-1 is there"), "{log}");
    }
    let (code, log) = Process::start(&here, &words(&["train", "--output", "loop", "--resume"], &[])).wait();
    assert!(code == Some(2) && log.contains("it has no recipe.yaml"), "{log}");
}
