//! What a run may hold: limits of the process, sizes that recipes name, and what objectives hold for many responses.
#![cfg(target_os = "linux")]

use std::time::Instant;

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, collimate, train};
use crate::process::Process;
use crate::small_model::model_arg;

const MIB: u64 = 1 << 20;

/// Four prompts with two responses each.
fn rows(folder: &Folder) -> String {
    let row = |i: usize| {
        let responses = [json!({"content": format!("{}", 2 * i), "reward": 1}), json!({"content": "7 6", "reward": 0})];
        json!({"prompt": format!("{i} * 2"), "responses": responses}).to_string() + "\n"
    };
    folder.write("rows.jsonl", (2..6).map(row).collect::<String>())
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

#[rstest]
// The shell counts KiB. What threads reserve is taken off the addresses.
#[case::addresses("-v 2097152", "ulimit -v, less what threads reserve", 2048)]
#[case::data("-d 1048576", "ulimit -d", 1024)]
fn an_automatic_budget_is_three_quarters_of_what_ulimit_allows(
    #[case] options: &str,
    #[case] origin: &str,
    #[case] mebibytes: u64,
) {
    let folder = Folder::new();
    let data = rows(&folder);
    let arguments = owned(&["plan", "--model", model_arg(), "--data", &data, "--json", "--quiet"]);
    let (code, log) = Process::start_with_ulimit(&folder.path("plan"), &arguments, options).wait();
    assert_eq!(code, Some(0), "{log}");
    let json = &log[log.find('{').expect("JSON")..=log.rfind('}').expect("JSON")];
    let plan: Value = serde_json::from_str(json).expect("JSON");
    let budget = plan["memory"]["budget"].as_u64().expect("a budget");
    let reserved = if options.starts_with("-v") { (64 + 64 * collimate_threads()) * MIB } else { 0 };
    assert_eq!(budget, (mebibytes * MIB - reserved) / 4 * 3, "{plan}");
    let found = plan["memory"]["budget_origin"].as_str().expect("an origin");
    assert!(found.starts_with("three quarters of ") && found.ends_with(origin), "{found}");

    let output = folder.arg("run");
    let arguments = owned(&train(model_arg(), &data, &output, &["max_steps=1", "reference_cache=false"]));
    let (code, log) = Process::start_with_ulimit(&folder.path("train"), &arguments, options).wait();
    assert_eq!(code, Some(0), "{log}");
    let line = log.lines().find(|line| line.contains("memory_budget: auto is ")).expect("a line");
    assert!(line.ends_with(origin), "{line}");
}

fn collimate_threads() -> u64 {
    std::thread::available_parallelism().map_or(1, usize::from) as u64
}

#[test]
fn a_limit_that_is_too_small_is_named() {
    let folder = Folder::new();
    let (data, output) = (rows(&folder), folder.arg("run"));
    let arguments = owned(&train(model_arg(), &data, &output, &["max_steps=1"]));
    let (code, log) = Process::start_with_ulimit(&folder.path("here"), &arguments, "-d 102400").wait();
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("75.0 MiB (three quarters of 100.0 MiB, ulimit -d) is too little"), "{log}");
}

/// Nothing of a size that a recipe names is allocated before the size is checked.
#[rstest]
#[case::adapter(&["use_peft=true", "lora_r=100000"], "memory_budget")]
#[case::larger(&["use_peft=true", "lora_r=1000000"], "memory_budget")]
#[case::largest(&["use_peft=true", "lora_r=2147483647", "use_dora=true"], "memory_budget")]
fn a_size_is_refused_before_it_is_allocated(#[case] settings: &[&str], #[case] key: &str) {
    let folder = Folder::new();
    let (data, output) = (rows(&folder), folder.arg("run"));
    let settings = [settings, &["memory_budget=200MiB"]].concat();
    let arguments = owned(&train(model_arg(), &data, &output, &settings));
    let mut process = Process::start(&folder.path("here"), &arguments);
    let peak = process.peak_until_its_end();
    let (code, log) = process.wait();
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains(key) && log.contains("too little"), "{log}");
    assert!(peak < 128 * MIB, "{} MiB", peak / MIB);
}

#[rstest]
#[case::a_batch(&["per_device_train_batch_size=2147483647"])]
#[case::a_step(&["per_device_train_batch_size=2147483647", "gradient_accumulation_steps=2147483647"])]
#[case::a_length(&["max_length=2147483647"])]
fn a_plan_without_data_is_of_bounded_size(#[case] settings: &[&str]) {
    let mut arguments = vec!["plan", "--model", model_arg()];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let outcome = collimate(&arguments);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("max_length"), "{}", outcome.err);
}

/// A prompt of as many responses as objectives that hold pairs take.
#[rstest]
fn thousands_of_responses_stay_within_the_budget(
    #[values("lipo_lambda", "plackett_luce", "rrhf", "nca")] objective: &str,
) {
    let folder = Folder::new();
    let responses: Vec<Value> = (0..2047).map(|i| json!({"content": format!("{i}"), "reward": i % 7})).collect();
    let data = folder.write("rows.jsonl", json!({"prompt": "4", "responses": responses}).to_string() + "\n");
    let objective = format!("objective={objective}");
    let settings = ["memory_budget=150MiB", "max_steps=2", "sample_prompts=0", "reference_cache=false", &objective];
    let output = folder.arg("run");
    let arguments = owned(&train(model_arg(), &data, &output, &settings));
    let measured = Process::start(&folder.path("here"), &arguments).peak_bytes();
    let log = std::fs::read_to_string(folder.path("here").join("log.txt")).expect("a log");
    assert!(measured <= 150 * MIB, "{} MiB: {log}", measured / MIB);
    let memory = log.lines().find(|line| line.contains("memory: ")).expect("a line about memory");
    let (_, peak) = memory.split_once("about ").expect("a forecast");
    let planned: f64 = peak.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    let measured = measured as f64 / MIB as f64;
    assert!(measured < planned * 1.15 + 8.0, "planned {planned:.1} MiB, measured {measured:.1} MiB");
}

/// A prompt of thousands of responses takes minutes, but none of its packs does.
#[rstest]
#[case::reference("nca", "reference log-probs", "while the reference was scored")]
#[case::step("rrhf", "training with rrhf", "nothing was trained yet")]
fn a_signal_does_not_wait_for_thousands_of_responses(
    #[case] objective: &str,
    #[case] stage: &str,
    #[case] expected: &str,
) {
    let folder = Folder::new();
    let text = "3 times 4 is 12. ".repeat(30);
    let responses: Vec<_> = (0..4000).map(|i| json!({"content": format!("{i} {text}"), "reward": i % 7})).collect();
    let data = folder.write("rows.jsonl", json!({"prompt": "4", "responses": responses}).to_string() + "\n");
    let objective = format!("objective={objective}");
    let settings = ["max_steps=1", "memory_budget=160MiB", "reference_cache=false", "sample_prompts=0", &*objective];
    let arguments: Vec<_> = train(model_arg(), &data, "run", &settings).into_iter().map(str::to_owned).collect();
    let mut process = Process::start(&folder.path("here"), &arguments);
    process.wait_until(|log| log.contains(stage));
    let begun = Instant::now();
    process.signal("TERM");
    let (code, log) = process.wait();
    assert_eq!(code, Some(143), "{log}");
    assert!(log.contains(expected), "{log}");
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}
