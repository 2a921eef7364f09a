//! Merged models of every architecture.

use std::path::PathBuf;

use collimate_oracle::golden_name;
use collimate_oracle::tolerances::{MERGED, assert_relative};
use rstest::rstest;

use super::{golden, golden_arg};
use crate::generation::{PROMPTS, generate};
use crate::harness::{Folder, succeed};

#[rstest]
fn a_merged_model_is_its_base_with_the_adapter(#[files("golden/*/golden.json")] family: PathBuf) {
    let model = golden_name(&family);
    let folder = Folder::new();
    let (base, adapter) = (golden_arg(&format!("models/{model}")), golden_arg(&format!("adapters/{model}")));
    let merged = folder.arg("merged");
    succeed(&["merge", "--model", &base, "--adapter", &adapter, "--output", &merged]);

    let data = golden("train/nca_llama_full/data.jsonl").display().to_string();
    let output = folder.arg("scores.jsonl");
    let score = |args: &[&str]| -> Vec<f64> {
        let fixed = ["score", "--data", &data, "--max-samples", "3", "--force", "--output", &output];
        succeed(&[&fixed, args].concat());
        let rows = folder.rows("scores.jsonl");
        let responses = rows.iter().flat_map(|row| row["responses"].as_array().expect("responses"));
        responses.map(|response| response["logps"].as_f64().expect("a sum")).collect()
    };
    let expected = score(&["--model", &base, "--adapter", &adapter]);
    let plain = score(&["--model", &base]);
    let found = score(&["--model", &merged]);
    assert_eq!(found.len(), 3 * 4);
    for ((found, expected), plain) in found.iter().zip(expected).zip(plain) {
        assert_relative(*found, expected, MERGED, model);
        assert!(
            (expected - plain).abs() > 10.0 * MERGED * plain.abs(),
            "the adapter changes too little to show anything"
        );
    }
    let length = ["--max-new-tokens", "8"];
    let together = generate(&["--model", &base, "--adapter", &adapter], &PROMPTS, &length);
    assert_eq!(together, generate(&["--model", &merged], &PROMPTS, &length));
}
