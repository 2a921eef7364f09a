//! What `memory_budget` may change, and what it may not.

use std::fs;

use collimate_report::read_metrics;
use rstest::rstest;
use serde_json::json;

use crate::harness::{Folder, Outcome, collimate, train};
use crate::small_model::{adapter_arg, model_arg};

/// Two prompts with twelve responses of different lengths each.
fn rows() -> String {
    let response = |i: usize, k: usize| {
        let content = format!("{} ", (i + 3) * (k + 2)).repeat(1 + (5 * k + i) % 7);
        json!({"content": content.trim(), "reward": k as f64 / 11.0})
    };
    let row = |i: usize| {
        let responses: Vec<_> = (0..12).map(|k| response(i, k)).collect();
        json!({"prompt": [{"role": "user", "content": format!("What is {i} times {i}?")}], "responses": responses})
    };
    (0..2).map(|i| row(i).to_string()).collect::<Vec<_>>().join("\n")
}

fn run(folder: &Folder, name: &str, settings: &[&str]) -> Outcome {
    let (data, output) = (folder.write("rows.jsonl", rows()), folder.arg(name));
    let mut all = vec!["per_device_train_batch_size=2", "max_steps=4", "learning_rate=1e-3", "reference_cache=false"];
    all.extend(settings);
    collimate(&train(model_arg(), &data, &output, &all))
}

/// Tokens of the longest pack, from the log.
fn fits(outcome: &Outcome) -> usize {
    let line = outcome.err.lines().find(|line| line.starts_with("memory: ")).expect("a line about memory");
    let words: Vec<&str> = line.split(' ').collect();
    let at = words.iter().position(|word| *word == "tokens").expect("a number of tokens");
    words[at - 1].replace(',', "").parse().expect("a number")
}

#[rstest]
#[case::full(&[], "98.9MiB")]
#[case::lora(&["use_peft=true", "lora_dropout=0.2"], "97.4MiB")]
#[case::adapter(&["lora_dropout=0.2"], "97.2MiB")]
fn groups_in_several_packs_train_the_same(#[case] settings: &[&str], #[case] budget: &str) {
    let folder = Folder::new();
    let adapter = format!("adapter={}", adapter_arg());
    let is_adapter = settings.len() == 1;
    let settings: Vec<&str> = settings.iter().copied().chain(is_adapter.then_some(adapter.as_str())).collect();
    let outcome = run(&folder, "whole", &settings);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    let budget = format!("memory_budget={budget}");
    let divided = run(&folder, "divided", &[&settings[..], &[&budget]].concat());
    assert_eq!(divided.code, 0, "{}", divided.err);
    let tokens = read_metrics(&folder.path("divided").join("metrics.jsonl")).expect("metrics");
    let whole = read_metrics(&folder.path("whole").join("metrics.jsonl")).expect("metrics");
    let (few, all) = (tokens[0].get("num_tokens"), whole[0].get("num_tokens"));
    assert!(few > all, "a divided prompt is computed more than once: {few:?} and {all:?} tokens, {}", fits(&divided));
    assert_eq!(tokens.len(), 4);
    for (divided, whole) in tokens.iter().zip(&whole) {
        for name in ["loss", "grad_norm", "logps/chosen", "rewards/chosen"] {
            let (divided, whole) = (divided.get(name).expect("a figure"), whole.get(name).expect("a figure"));
            assert!((divided - whole).abs() <= 1e-4 * whole.abs().max(1e-2), "{name}: {divided} against {whole}");
        }
    }
}

#[test]
fn too_little_memory_is_refused_before_any_compute() {
    let folder = Folder::new();
    let outcome = run(&folder, "none", &["memory_budget=90MiB"]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("memory_budget") && outcome.err.contains("too little"), "{}", outcome.err);
    let outcome = run(&folder, "little", &["memory_budget=98.35MiB"]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("rows.jsonl:1, response "), "{}", outcome.err);
    assert!(!fs::exists(folder.path("little").join("metrics.jsonl")).expect("a folder"), "nothing was computed");
}
