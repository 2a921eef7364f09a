//! Quotas that nothing fits into, and output that nobody reads any more.
#![cfg(unix)]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use rstest::rstest;
use serde_json::json;

use crate::harness::Folder;
use crate::process::{self, Process};
use crate::small_model::{adapter_arg, model_arg};

#[rstest]
#[case::train(
    "train --model MODEL --data FEW --output out --set max_steps=1 --set reference_cache=false --set token_cache=false"
)]
#[case::merge("merge --model MODEL --adapter ADAPTER --output out")]
#[case::merge_in_several_files("merge --model MODEL --adapter ADAPTER --output out --max-shard-size 100KB")]
#[case::export("export --model MODEL --outtype f32 --tokenizer-pre gpt-2 --output out")]
#[case::convert("data convert ROWS --output out")]
#[case::reward("reward --command PROGRAM --shell --data ROWS --output out")]
#[case::sample("sample --model MODEL --data ROWS -n 1 --max-new-tokens 2 --output out")]
fn a_quota_that_is_too_small_is_an_error_that_leaves_nothing(#[case] words: &str) {
    let folder = Folder::new();
    let response = |text: &str, reward: u8| json!({"content": text.repeat(40), "reward": reward});
    let row = json!({"prompt": "What is 3 times 4?", "responses": [response("12", 1), response("7", 0)]});
    let rows = folder.write("rows.jsonl", format!("{row}\n").repeat(200));
    // Their tokens fit.
    let few = folder.write("few.jsonl", format!("{row}\n").repeat(2));
    let word = |word: &str| match word {
        "MODEL" => model_arg().to_owned(),
        "ADAPTER" => adapter_arg().to_owned(),
        "ROWS" => rows.clone(),
        "FEW" => few.clone(),
        "PROGRAM" => "while read -r line; do echo 1; done".to_owned(),
        other => other.to_owned(),
    };
    let arguments: Vec<String> = words.split_whitespace().map(word).collect();
    let here = folder.path("here");
    // Room for the log and small files, but not for the rows or the model.
    let (code, log) = Process::start_with_short_files(&here, &arguments, 16 << 10).wait();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("out") && log.contains("cannot be written: File too large"), "{log}");
    let hidden = |folder: &Path| {
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        names
            .map(|entry| entry.file_name().display().to_string())
            .filter(|name| name.starts_with('.'))
            .collect::<Vec<_>>()
    };
    assert_eq!((hidden(&here), hidden(&here.join("out"))), (Vec::new(), Vec::new()), "hidden leftovers");
    // Only a run's folder is kept, for it can be resumed.
    assert_eq!(here.join("out").exists(), words.starts_with("train"));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = Folder::new();
    let response = |text: &str, reward: u8| json!({"content": text.repeat(4000), "reward": reward});
    let row = json!({"prompt": "a", "responses": [response("12", 1), response("7", 0)]});
    // More than a pipe holds.
    let rows = folder.write("rows.jsonl", format!("{row}\n").repeat(50));
    let program = "while read -r line; do echo 1; done";
    let arguments = ["reward", "--command", program, "--shell", "--data", &rows, "--output", "-"].map(str::to_owned);
    let mut command = process::command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a process");
    let mut out = child.stdout.take().expect("a pipe");
    let mut byte = [0];
    while byte != *b"{" {
        assert_eq!(out.read(&mut byte).expect("output"), 1, "it printed no row");
    }
    drop(out);
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}
