//! `collimate loop`: what a round starts from, and what a restarted loop repeats.
#![cfg(unix)]

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed};
use crate::process::Process;
use crate::small_model::model_arg;

/// A loop over four prompts with a reward program that prefers certain lengths.
fn command(folder: &Folder, output: &str, rounds: &str, settings: &[&str]) -> Vec<String> {
    let prompt = |i: usize| json!({"prompt": format!("What is 3 times {i}?"), "answer": 3 * i}).to_string() + "\n";
    let prompts = folder.write("prompts.jsonl", (2..6).map(prompt).collect::<String>());
    let held_out = folder.write("held-out.jsonl", (6..8).map(prompt).collect::<String>());
    let program = folder.write("program.sh", "awk '/\"answer\":/ {print (length($0) % 7) / 8}'");
    let program = format!("sh '{program}'");
    let mut args = vec!["loop", "--model", model_arg(), "--prompts", &prompts, "--eval-prompts", &held_out];
    args.extend(["--command", &program, "--rounds", rounds, "--num-responses", "3", "--eval-responses", "2"]);
    args.extend(["--max-new-tokens", "6", "--output", output, "--objective", "nca"]);
    let settings = [
        &["reference_cache=false", "per_device_train_batch_size=2", "learning_rate=1e-3", "sample_time_share=1"],
        settings,
    ]
    .concat();
    args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    args.into_iter().map(str::to_owned).collect()
}

fn and(mut args: Vec<String>, more: &[&str]) -> Vec<String> {
    args.extend(more.iter().map(|more| (*more).to_owned()));
    args
}

/// The value of a key in the recipe of a round.
fn key(folder: &Folder, round: &str, name: &str) -> String {
    let recipe = folder.read(&format!("{round}/recipe.yaml"));
    let line = recipe.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("{name} in {recipe}")).to_owned()
}

#[test]
fn a_round_starts_where_the_last_one_ended_and_is_not_done_again() {
    let folder = Folder::new();
    let output = folder.arg("loop");
    let outcome = succeed(&command(&folder, &output, "2", &[]));
    let rows = folder.rows("loop/loop.jsonl");
    assert_eq!(rows.iter().map(|row| row["round"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    assert_eq!((&rows[0]["mean_reward"], &rows[1]["num_responses"]), (&Value::Null, &json!(12)));
    assert!(rows.iter().all(|row| row["eval_mean_reward"].is_f64()), "{rows:?}");
    assert_eq!(key(&folder, "loop/round-1", "model_name_or_path"), model_arg());
    assert_eq!(key(&folder, "loop/round-2", "model_name_or_path"), folder.arg("loop/round-1"));
    assert_eq!(key(&folder, "loop/round-2", "reference"), "null");
    assert_ne!(key(&folder, "loop/round-1", "seed"), key(&folder, "loop/round-2", "seed"));
    assert_ne!(folder.read("loop/round-1/samples.jsonl"), folder.read("loop/round-2/samples.jsonl"));
    let train = &folder.rows("loop/round-2/train.jsonl")[0];
    assert!(train["answer"].is_u64() && train["responses"][1]["reward"].is_f64(), "{train}");
    assert!(outcome.err.contains("round  responses  mean reward  best reward  steps  held out\n"), "{}", outcome.err);

    let again = collimate(&command(&folder, &output, "3", &[]));
    assert_eq!(again.code, 1, "{}", again.err);
    assert!(again.err.contains("holds a run already; use --resume"), "{}", again.err);
    let other = collimate(&and(command(&folder, &output, "3", &["learning_rate=2e-3"]), &["--resume"]));
    assert_eq!(other.code, 1, "{}", other.err);
    assert!(other.err.contains("learning_rate is 0.002, there 0.001"), "{}", other.err);

    let more = succeed(&and(command(&folder, &output, "3", &[]), &["--resume"]));
    assert!(!more.err.contains("round 2 of 3") && more.err.contains("round 3 of 3"), "{}", more.err);
    let extended = folder.rows("loop/loop.jsonl");
    assert_eq!((extended.len(), &extended[..3]), (4, &rows[..]));
}

#[rstest]
#[case::previous(&[], "null")]
#[case::start(&["--reference", "start"], "base")]
fn an_adapter_goes_from_round_to_round(#[case] reference: &[&str], #[case] expected: &str) {
    let folder = Folder::new();
    let output = folder.arg("loop");
    succeed(&and(command(&folder, &output, "2", &["use_peft=true", "lora_r=4"]), reference));
    assert_eq!(key(&folder, "loop/round-1", "adapter"), "null");
    assert_eq!(key(&folder, "loop/round-1", "reference"), "null");
    assert_eq!(key(&folder, "loop/round-2", "adapter"), folder.arg("loop/round-1"));
    assert_eq!(key(&folder, "loop/round-2", "model_name_or_path"), model_arg());
    assert_eq!(key(&folder, "loop/round-2", "reference"), expected);
    assert!(folder.path("loop/round-2/adapter_model.safetensors").is_file());
}

#[test]
fn a_loop_that_was_stopped_ends_as_if_it_had_not_been() {
    let folder = Folder::new();
    let settings = ["num_train_epochs=60", "save_steps=40"];
    let args = command(&folder, "loop", "2", &settings);
    Process::start(&folder.path("whole"), &args).succeed();

    // During the first round's training.
    let here = folder.path("here");
    let mut process = Process::start(&here, &args);
    let metrics = here.join("loop/round-1/metrics.jsonl");
    process.wait_until(|_| fs::read_to_string(&metrics).unwrap_or_default().lines().count() > 5);
    process.signal("TERM");
    let (code, log) = process.wait();
    assert_eq!(code, Some(143), "{log}");
    assert!(log.contains("stopped by SIGTERM after step ") && log.contains("--resume"), "{log}");

    // The state after a kill between training and its completion marker.
    let resumed = and(args, &["--resume"]);
    Process::start(&here, &resumed).succeed();
    fs::remove_file(here.join("loop/round-2/trained.json")).expect("a mark");
    fs::remove_file(here.join("loop/loop.jsonl")).expect("the rows");
    Process::start(&here, &resumed).succeed();
    for file in
        ["round-1/model.safetensors", "round-2/samples.jsonl", "round-2/rewards.jsonl", "round-2/model.safetensors"]
    {
        let bytes = |run: &str| fs::read(folder.path(run).join("loop").join(file)).expect("a file");
        assert!(bytes("whole") == bytes("here"), "{file} differs");
    }
}

#[test]
fn a_signal_stops_a_loop_while_a_program_thinks() {
    let folder = Folder::new();
    let args = command(&folder, "loop", "1", &[]);
    // Answers a few prompts, then hangs.
    folder.write("program.sh", "read -r a; echo 1; read -r b; echo 1; exec sleep 60");
    let here = folder.path("here");
    let mut process = Process::start(&here, &args);
    process.wait_until(|log| log.contains("rewards (4)"));
    process.signal("INT");
    let (code, log) = process.wait();
    assert_eq!(code, Some(130), "{log}");
    assert!(log.contains("stopped by SIGINT while responses were scored in round 0; --resume continues it"), "{log}");
    let names = fs::read_dir(here.join("loop/round-0")).expect("a folder").flatten();
    let names: Vec<String> = names.map(|entry| entry.file_name().display().to_string()).collect();
    assert_eq!(names, ["eval-samples.jsonl"]);

    command(&folder, "loop", "1", &[]);
    Process::start(&here, &and(args, &["--resume"])).succeed();
    assert!(here.join("loop/round-1/model.safetensors").is_file());
}

#[test]
fn a_loop_says_what_it_lacks() {
    let folder = Folder::new();
    let args = command(&folder, "loop", "1", &["reference=base"]);
    let outcome = collimate(&and(args, &["--reference", "start"]));
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("leave one out"), "{}", outcome.err);
    let outcome = collimate(&and(command(&folder, "loop", "0", &[]), &[]));
    assert_eq!(outcome.code, 2, "{}", outcome.err);
}

/// A loop's folder that somebody else made: nothing is read or written through a link.
#[rstest]
#[case("loop.json")]
#[case("loop.jsonl")]
#[case("round-1")]
#[case("round-1/samples.jsonl")]
#[case("round-1/trained.json")]
fn a_link_in_a_loops_folder_is_named_before_anything_is_sampled(#[case] name: &str) {
    let folder = Folder::new();
    let path = folder.path("loop").join(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    folder.write("victim/file", "precious");
    std::os::unix::fs::symlink(folder.path("victim"), &path).expect("a link");
    let output = folder.arg("loop");
    for more in [&[][..], &["--resume"]] {
        let outcome = collimate(&and(command(&folder, &output, "1", &[]), more));
        assert!(outcome.code == 2 && outcome.err.contains(&format!("{name}: it is a link")), "{}", outcome.err);
        assert!(!outcome.err.contains("sampling"), "{}", outcome.err);
        assert_eq!(fs::read_dir(folder.path("victim")).expect("a folder").count(), 1);
    }
}

#[test]
fn a_loop_does_not_write_into_the_folder_of_its_model() {
    let folder = Folder::new();
    let model = folder.copy(Path::new(model_arg()), "model");
    let mut args = command(&folder, &model, "1", &[]);
    args[2].clone_from(&model);
    let outcome = collimate(&args);
    assert!(
        outcome.code == 2 && outcome.err.contains("it is the folder of the model, which is read"),
        "{}",
        outcome.err
    );
    assert!(!folder.path("model/loop.json").exists());
}
