//! `collimate reward`: programs that score responses, and programs that fail.
#![cfg(unix)]

mod failures;
mod scores;
mod verifier;

use crate::harness::{Folder, Outcome, collimate};

/// Three prompts with two responses each; a response names its row and index.
fn samples(folder: &Folder) -> String {
    let response = |i: usize, k: usize| serde_json::json!({"content": format!("row {i} response {k}")});
    let row = |i: usize| {
        let responses: Vec<_> = (0..2).map(|k| response(i, k)).collect();
        serde_json::json!({"prompt": format!("prompt {i}"), "answer": i, "responses": responses}).to_string() + "\n"
    };
    folder.write("samples.jsonl", (0..3).map(row).collect::<String>())
}

/// Runs `collimate reward` on the samples with a shell script.
fn reward(folder: &Folder, script: &str, extra: &[&str]) -> Outcome {
    let (data, program, output) = (samples(folder), folder.write("program.sh", script), folder.arg("rewards.jsonl"));
    let command = format!("sh '{program}'");
    let args = ["reward", "--command", &command, "--data", &data, "--output", &output];
    collimate(&[&args, extra].concat())
}

/// All rewards, in the order of the file.
fn rewards(folder: &Folder) -> Vec<f64> {
    let rows = folder.rows("rewards.jsonl");
    let responses = rows.iter().flat_map(|row| row["responses"].as_array().expect("responses"));
    responses.map(|response| response["reward"].as_f64().expect("a reward")).collect()
}

/// Checks that a failed run left nothing in the folder besides the test's own files.
fn check_nothing_written(folder: &Folder) {
    let names = std::fs::read_dir(folder.path("")).expect("the folder").flatten();
    let mut names: Vec<String> = names.map(|entry| entry.file_name().display().to_string()).collect();
    names.sort();
    assert_eq!(names, ["program.sh", "samples.jsonl"]);
}
