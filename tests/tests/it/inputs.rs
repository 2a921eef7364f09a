//! Inputs of blocks that wait for the backward pass in a file.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed, train};
use crate::process::Process;
use crate::small_model::write_model_with;

/// A prompt whose responses are one pack, then one whose responses are several in little memory.
fn rows() -> String {
    let responses = |count: usize, words: usize| {
        let content = |k: usize| format!("{} ", 3 * (k + 2)).repeat(words).trim().to_owned();
        (0..count).map(|k| json!({"content": content(k), "reward": k as f64 / 11.0})).collect::<Vec<_>>()
    };
    let row =
        |(count, words)| json!({"prompt": "What is 3 times 4?", "responses": responses(count, words)}).to_string();
    [(2, 2), (12, 40)].map(row).join("\n")
}

/// A model of twelve blocks, data, settings of a run whose second step keeps inputs of blocks in a file, and the file's bytes.
fn setting(folder: &Folder) -> (String, String, Vec<String>, u64) {
    let model = folder.path("model");
    write_model_with(&model, &json!({"num_hidden_layers": 12, "intermediate_size": 224}));
    let (model, data) = (model.display().to_string(), folder.write("rows.jsonl", rows()));
    let settings = [
        "use_peft=true",
        "lora_r=2",
        "weights=resident",
        "per_device_train_batch_size=1",
        "gradient_accumulation_steps=1",
        "shuffle=false",
        "max_steps=2",
        "save_steps=1",
        "learning_rate=1e-3",
        "reference_cache=false",
        "sample_prompts=0",
    ];
    let mut settings: Vec<String> = settings.map(str::to_owned).to_vec();
    let in_file = |budget: String| {
        let inputs = planned(&model, &data, &settings, &budget)["steps"]["inputs"].clone();
        let bytes = inputs[0]["bytes"].as_u64().filter(|_| inputs[0]["place"] == "file" && inputs[1].is_null());
        bytes.map(|bytes| (budget, bytes))
    };
    let mut budgets = (0..120).map(|fifth| format!("memory_budget={:.1}MiB", 99.0 + 0.2 * f64::from(fifth)));
    let (budget, bytes) = budgets.find_map(in_file).expect("a budget");
    settings.push(budget);
    (model, data, settings, bytes)
}

fn planned(model: &str, data: &str, settings: &[String], budget: &str) -> Value {
    let mut args = vec!["plan", "--model", model, "--data", data, "--set", budget, "--json", "--quiet"];
    settings.iter().for_each(|setting| args.extend(["--set", setting]));
    let outcome = collimate(&args);
    serde_json::from_str(&outcome.out).unwrap_or(Value::Null)
}

#[test]
#[cfg(unix)]
fn a_file_that_cannot_be_written_ends_the_run_and_resuming_goes_on() {
    let folder = Folder::new();
    let (model, data, settings, bytes) = setting(&folder);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let (whole, short) = (folder.arg("whole"), folder.arg("short"));
    let outcome = succeed(&train(&model, &data, &whole, &settings));
    assert!(!outcome.err.contains("inputs-of-blocks"), "{}", outcome.err);

    let arguments: Vec<String> = train(&model, &data, &short, &settings).into_iter().map(str::to_owned).collect();
    let process = Process::start_with_short_files(&folder.path("here"), &arguments, bytes / 2);
    let (code, log) = process.wait();
    assert_eq!(code, Some(1), "{log}");
    let file = folder.path("short").join("inputs-of-blocks");
    assert!(log.contains(&format!("{}: cannot be written: ", file.display())), "{log}");
    assert!(!file.exists());
    assert!(folder.path("short").join("checkpoint-1").is_dir(), "{log}");
    let names = |name: &str| {
        let entries = fs::read_dir(folder.path(name)).expect("a folder");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };

    let mut resumed = train(&model, &data, &short, &settings);
    resumed.push("--resume");
    succeed(&resumed);
    assert_eq!(names("short"), names("whole"));
    let adapter = |run: &str| fs::read(folder.path(run).join("adapter_model.safetensors")).expect("an adapter");
    assert!(adapter("short") == adapter("whole"), "resuming changes the adapter");
}

#[test]
fn a_plan_says_where_inputs_wait() {
    let folder = Folder::new();
    let (model, data, settings, _) = setting(&folder);
    let mut args = vec!["plan", "--model", &model, "--data", &data, "--quiet"];
    settings.iter().for_each(|setting| args.extend(["--set", setting]));
    let text = succeed(&args).out;
    let line = text.lines().find(|line| line.trim_start().starts_with("inputs ")).expect("a line");
    assert!(line.contains("of blocks ") && line.contains("MiB, in a file without a name in "), "{text}");
}
