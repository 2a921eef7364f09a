//! Products of float32 numbers in lower precision, by the tiles that AMX and AVX-512 multiply, in plain code where the processor
//! lacks both. Each command is a process of its own, since the precision is one setting of a process.

use std::path::PathBuf;

use collimate_backend::MatmulPrecision;
use collimate_oracle::golden_name;
use collimate_oracle::tolerances::{HIGH_LOGPS, LOGPS, MEDIUM_LOGPS};
use rstest::rstest;
use serde_json::Value;

use super::golden_arg;
use super::parity::{golden_groups, number, pairs, write_data};
use crate::harness::{Folder, train};
use crate::process::Process;
use crate::small_model::model_arg;

/// Runs a command with the tiles in plain code, so that the numbers are those of any processor.
fn run(folder: &Folder, args: &[&str]) -> String {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let process = Process::start_with_variables(&folder.path("."), &args, &[("COLLIMATE_BFLOAT16_PRODUCTS", "plain")]);
    let (code, log) = process.wait();
    assert_eq!(code, Some(0), "{log}");
    log
}

#[rstest]
#[case("highest", LOGPS)]
#[case("high", HIGH_LOGPS)]
#[case("medium", MEDIUM_LOGPS)]
fn log_probs_are_as_near_as_the_precision(
    #[files("golden/*/golden.json")] family: PathBuf,
    #[case] precision: &str,
    #[case] limit: f64,
) {
    let model = golden_name(&family);
    let (folder, groups) = (Folder::new(), golden_groups(model));
    let (data, output) = (write_data(&folder, &groups), folder.arg("scores.jsonl"));
    let base = golden_arg(&format!("models/{model}"));
    let args = [
        "score",
        "--data",
        &data,
        "--output",
        &output,
        "--model",
        &base,
        "--tokens",
        "--float32-matmul-precision",
        precision,
    ];
    run(&folder, &args);
    let found = folder.rows("scores.jsonl");
    let error = |(row, response): (&Value, &Value)| (number(&response["logps"]) / number(&row["logps"]) - 1.0).abs();
    let largest = pairs(&groups, &found).into_iter().map(error).fold(0.0, f64::max);
    println!("{model}, {precision}: {largest:.1e} of a log-prob");
    assert!(largest <= limit, "{model}, {precision}: {largest:.1e}");
    // Otherwise nothing was computed in this precision.
    assert!(precision == "highest" || largest > 1e-8, "{model}, {precision}: {largest:.1e}");
}

/// Losses of a short run in a precision.
fn losses(folder: &Folder, precision: &str, more: &[&str]) -> (Vec<f64>, String) {
    let row = |i: usize| format!("{{\"prompt\": \"2 times {i}?\", \"responses\": [{}]}}\n", responses(i));
    let data = folder.write("data.jsonl", (2..10).map(row).collect::<String>());
    let (precision, out) = (format!("float32_matmul_precision={precision}"), folder.arg("run"));
    let mut settings =
        vec!["max_steps=6", "learning_rate=1e-3", "sample_prompts=0", "reference_cache=false", &precision];
    settings.extend(more);
    let log = run(folder, &train(model_arg(), &data, &out, &settings));
    let rows = folder.rows("run/metrics.jsonl");
    (rows.iter().filter_map(|row| row["loss"].as_f64()).collect(), log)
}

fn responses(i: usize) -> String {
    (0..3).map(|k| format!("{{\"content\": \"{}\", \"reward\": {k}}}", i * (k + 1))).collect::<Vec<_>>().join(", ")
}

#[rstest]
#[case("high", 1e-5, &[])]
#[case("high", 1e-5, &["use_peft=true", "quantization=nf4"])]
#[case("medium", 2e-2, &[])]
fn training_takes_the_course_of_float32(#[case] precision: &str, #[case] limit: f64, #[case] more: &[&str]) {
    let (folder, other) = (Folder::new(), Folder::new());
    let ((exact, said), (found, log)) = (losses(&folder, "highest", more), losses(&other, precision, more));
    assert!(exact.len() >= 6 && found.len() == exact.len(), "{exact:?} {found:?}");
    let difference = exact.iter().zip(&found).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
    println!("{precision} {more:?}: {difference:.1e} of a loss");
    assert!(difference > 0.0 && difference <= limit, "{difference:.1e}: {exact:?} {found:?}");
    assert!(log.contains(&format!("computed in float32, products in {precision} precision")), "{log}");
    assert!(!said.contains("precision"), "{said}");
    let card = other.read("run/README.md");
    assert!(card.contains(&format!("Products of float32 numbers in {precision} precision.")), "{card}");
}

#[test]
fn a_precision_that_would_not_be_faster_is_said_and_not_used() {
    // Without the variable, on a processor without bfloat16 products.
    if MatmulPrecision::High.on_this_processor() == MatmulPrecision::High {
        return;
    }
    let folder = Folder::new();
    let groups = golden_groups("llama");
    let (data, base) = (write_data(&folder, &groups), golden_arg("models/llama"));
    let scores = |name: &str, precision: &str| {
        let output = folder.arg(name);
        let args = ["score", "--data", &data, "--output", &output, "--model", &base];
        let args =
            args.into_iter().chain(["--float32-matmul-precision", precision]).map(str::to_owned).collect::<Vec<_>>();
        let (code, log) = Process::start(&folder.path("."), &args).wait();
        assert_eq!(code, Some(0), "{log}");
        (folder.rows(name), log)
    };
    let ((exact, _), (found, log)) = (scores("exact.jsonl", "highest"), scores("high.jsonl", "high"));
    assert!(log.contains("products in high precision would not be faster on this processor"), "{log}");
    assert_eq!(found, exact);
    assert!(!found.is_empty());
}
