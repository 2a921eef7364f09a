//! Computing in bfloat16: compared with float32 and PyTorch if the backend supports it; otherwise the refusal is checked.

use std::fs;
use std::path::PathBuf;

use collimate_backend::{ComputeDtype, multiplies_in};
use collimate_oracle::golden_name;
use collimate_oracle::tolerances::{BF16_LOSS, BF16_MEAN_LOSS, assert_relative, bf16_computed_logps};
use rstest::rstest;
use serde_json::Value;

use super::golden_arg;
use super::parity::{golden_groups, number, pairs, write_data};
use crate::harness::{Folder, Outcome, backend, collimate, succeed, train};
use crate::process::Process;
use crate::real_data;

/// Runs a command that computes in bfloat16; `None` if the backend does not support it, after checking the refusal.
fn compute(args: &[&str]) -> Option<Outcome> {
    let outcome = collimate(args);
    let devices = collimate_backend::devices(&backend()).expect("the backend of the tests");
    if devices[0].dtypes.contains(&"bfloat16") {
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        return Some(outcome);
    }
    let reason = format!("\"{}\" computes in float32 on device 0, not in bfloat16", backend());
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    // The message is wrapped to the terminal's width.
    let said = outcome.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert!(said.contains(&reason) && said.contains("leave it at float32"), "{}", outcome.err);
    assert_eq!(said.contains("compute_dtype"), args[0] == "train", "{}", outcome.err);
    None
}

/// Runs a command of flex in a process of its own whose products are those of tiles, in plain code; they are chosen once a process.
fn compute_in_tiles(folder: &Folder, args: &[&str]) {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    Process::start_with_variables(&folder.path("."), &args, &[("COLLIMATE_BFLOAT16_PRODUCTS", "plain")]).succeed();
}

#[rstest]
fn scores_are_as_near_to_float32_as_pytorchs_own(
    #[files("golden/*/golden.json")] family: PathBuf,
    #[values(false, true)] in_tiles: bool,
) {
    if in_tiles && backend() != "flex" {
        return;
    }
    let model = golden_name(&family);
    let (folder, groups) = (Folder::new(), golden_groups(model));
    let (data, output) = (write_data(&folder, &groups), folder.arg("scores.jsonl"));
    let (base, adapter) = (golden_arg(&format!("models/{model}")), golden_arg(&format!("adapters/{model}")));
    let limit = bf16_computed_logps(model);
    for (key, more) in [("logps", vec![]), ("logps_with_adapter", vec!["--adapter", &adapter])] {
        let args = [
            "score",
            "--data",
            &data,
            "--output",
            &output,
            "--model",
            &base,
            "--force",
            "--tokens",
            "--compute-dtype",
            "bfloat16",
        ];
        let args = [&args[..], &more].concat();
        match in_tiles {
            true => compute_in_tiles(&folder, &args),
            false if compute(&args).is_none() => return,
            false => {}
        }
        let found = folder.rows("scores.jsonl");
        let (mut largest, mut total, mut count) = (0f64, 0.0, 0);
        for (i, (row, response)) in pairs(&groups, &found).into_iter().enumerate() {
            let (found, expected) = (number(&response["logps"]), number(&row[key]));
            assert_relative(found, expected, limit, &format!("{model}, {key} of row {i}"));
            let error = (found / expected - 1.0).abs();
            (largest, total, count) = (largest.max(error), total + error, count + 1);
        }
        println!("{model}, {key}: largest {largest:.2e}, mean {:.2e}", total / f64::from(count));
        assert!(largest > 1e-5, "what was not rounded shows nothing");
    }
}

/// The settings of `fifty_steps_on_real_data`.
fn settings(case: &str) -> (String, String, Vec<&'static str>) {
    let (model, data, own) = match case {
        "adapter" => ("qwen2", "gsm8k_rewards.jsonl", ["use_peft=true", "learning_rate=5e-4"].as_slice()),
        _ => ("llama", "topical_chat_rewards.jsonl", ["learning_rate=2e-4"].as_slice()),
    };
    let common = ["max_length=160", "max_prompt_length=80", "per_device_train_batch_size=2", "sample_prompts=0"];
    (golden_arg(&format!("models/{model}")), real_data::file(data), [&common, own].concat())
}

fn losses(rows: &[Value]) -> Vec<f64> {
    rows.iter().map(|row| number(&row["loss"])).collect()
}

#[rstest]
fn the_loss_on_real_data_follows_that_in_float32(#[values("adapter", "all_weights")] case: &str) {
    let (folder, (model, data, mut settings)) = (Folder::new(), settings(case));
    settings.push("max_steps=100");
    let (exact, rounded) = (folder.arg("float32"), folder.arg("bfloat16"));
    let in_bfloat16 = [&settings[..], &["compute_dtype=bfloat16"]].concat();
    let Some(outcome) = compute(&train(&model, &data, &rounded, &in_bfloat16)) else { return };
    assert!(outcome.err.contains("computed in bfloat16"), "{}", outcome.err);
    let slow = multiplies_in(&backend(), ComputeDtype::Bfloat16) == Ok(false);
    let said = outcome.err.matches("warning: this processor has no bfloat16 products").count();
    assert_eq!(said, usize::from(slow), "{}", outcome.err);
    succeed(&train(&model, &data, &exact, &settings));
    let (found, expected) = (folder.rows("bfloat16/metrics.jsonl"), folder.rows("float32/metrics.jsonl"));
    for rank in 0.. {
        let Some(reward) = found[0].get(format!("rewards/rank_{rank}")) else {
            assert!(rank > 1, "no rewards in {}", found[0]);
            break;
        };
        assert_eq!(number(reward), 0.0, "implicit rewards begin at exactly zero");
    }
    let (found, expected) = (losses(&found), losses(&expected));
    assert_eq!((found.len(), expected.len()), (100, 100));
    let differences: Vec<f64> = found.iter().zip(&expected).map(|(f, e)| (f / e - 1.0).abs()).collect();
    let largest = differences.iter().copied().fold(0.0, f64::max);
    let mean = differences.iter().sum::<f64>() / 100.0;
    let total = |losses: &[f64]| losses.iter().sum::<f64>();
    let windows = found.chunks(10).zip(expected.chunks(10)).map(|(f, e)| (total(f) / total(e) - 1.0).abs());
    let of_ten = windows.fold(0.0, f64::max);
    println!("{case}: loss per step, largest {largest:.2e}, mean {mean:.2e}; of ten steps, largest {of_ten:.2e}");
    assert!(mean <= BF16_MEAN_LOSS, "{case}: the losses are {mean} apart in the mean");
    assert!(of_ten <= BF16_MEAN_LOSS, "{case}: the losses of ten steps are {of_ten} apart");
    assert!(largest <= BF16_LOSS, "{case}: a loss is {largest} off");
    assert!(largest > 1e-6, "what was not rounded shows nothing");
}

#[rstest]
#[case("adapter", "adapter_model.safetensors")]
#[case("all_weights", "model.safetensors")]
fn a_resumed_run_on_real_data_ends_with_the_same_bytes(#[case] case: &str, #[case] weights: &str) {
    let (folder, (model, data, mut settings)) = (Folder::new(), settings(case));
    settings.extend(["max_steps=7", "save_steps=3", "gradient_accumulation_steps=2", "compute_dtype=bfloat16"]);
    let (whole, broken) = (folder.arg("whole"), folder.arg("broken"));
    let Some(_) = compute(&train(&model, &data, &whole, &settings)) else { return };
    folder.copy(&folder.path("whole/checkpoint-3"), "broken/checkpoint-3");
    let mut resumed = train(&model, &data, &broken, &settings);
    resumed.push("--resume");
    let err = succeed(&resumed).err;
    assert!(err.contains("resuming after step 3"), "{err}");
    for name in [weights.to_owned(), format!("checkpoint-7/{weights}"), "checkpoint-7/optimizer.safetensors".to_owned()]
    {
        let bytes = |run: &str| fs::read(folder.path(run).join(&name)).expect("the trained weights");
        assert!(bytes("whole") == bytes("broken"), "{name} differs");
    }
    let figures = |run: &str| losses(&folder.rows(&format!("{run}/metrics.jsonl")));
    assert_eq!(figures("whole")[3..], figures("broken")[figures("broken").len() - 4..]);

    // A run in another dtype counts as another run.
    let settings = [&settings[..settings.len() - 1], &["compute_dtype=float32"]].concat();
    let mut other = train(&model, &data, &broken, &settings);
    other.push("--resume");
    let outcome = collimate(&other);
    assert!(outcome.err.contains("compute_dtype: float32 (there bfloat16)"), "{}", outcome.err);
    assert_ne!(outcome.code, 0);
}

#[rstest]
#[case::adapter(&["use_peft=true"], "adapter_model.safetensors")]
#[case::all_weights(&[], "model.safetensors")]
fn a_run_whose_weights_are_in_tiles_is_resumed_with_the_same_bytes(#[case] own: &[&str], #[case] weights: &str) {
    if backend() != "flex" {
        return;
    }
    let (folder, model) = (Folder::new(), golden_arg("models/llama"));
    let data = write_data(&folder, &golden_groups("llama"));
    let common =
        ["max_steps=4", "save_steps=2", "learning_rate=1e-3", "compute_dtype=bfloat16", "reference_cache=false"];
    let settings = [&common[..], own].concat();
    let run = |name: &str, more: &[&str]| {
        let output = folder.arg(name);
        compute_in_tiles(&folder, &[&train(&model, &data, &output, &settings)[..], more].concat());
    };
    run("whole", &[]);
    folder.copy(&folder.path("whole/checkpoint-2"), "broken/checkpoint-2");
    run("broken", &["--resume"]);
    for name in [weights.to_owned(), format!("checkpoint-4/{weights}"), "checkpoint-4/optimizer.safetensors".to_owned()]
    {
        let bytes = |run: &str| fs::read(folder.path(run).join(&name)).expect("the trained weights");
        assert!(bytes("whole") == bytes("broken"), "{name} differs");
    }
}
