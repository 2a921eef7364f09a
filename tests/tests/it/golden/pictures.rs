//! Models of pictures in `../shared/parity/visual`, where that is beside the checkout: log-probs under a row's own, the null and
//! the next row's condition, runs of condition contrastive alignment, and what a resumed one leaves.

use std::path::{Path, PathBuf};

use collimate_oracle::tolerances::{
    FAMILY_LOGPS, FAMILY_TOKEN_LOGPS, GRAD_NORM, LOSS, PICTURE_FINAL_LOGPS, assert_relative,
};
use rstest::rstest;
use serde_json::Value;

use super::parity::{array, number, read_json};
use super::visual::visual;
use crate::harness::{Folder, succeed};
use crate::resume::assert_resumed_ends_the_same;

/// The first rows of a model's data, as many as have log-probs.
fn rows_of(root: &Path, model: &str, count: usize) -> String {
    let text = std::fs::read_to_string(root.join("data").join(model).join("data.jsonl")).expect("data");
    text.lines().take(count).map(|line| format!("{line}\n")).collect()
}

/// Scores rows; `arguments` are those of `collimate score` beyond model, data and output.
fn score(folder: &Folder, model: &Path, data: &str, arguments: &[&str]) -> Vec<Value> {
    let (model, output) = (model.display().to_string(), folder.arg("scores.jsonl"));
    let all = ["score", "--model", &model, "--data", data, "--output", &output, "--tokens", "--force"];
    succeed(&[&all, arguments].concat());
    folder.rows("scores.jsonl").iter().map(|row| row["responses"][0].clone()).collect()
}

#[rstest]
fn log_probs_are_those_of_pytorch(
    #[values("llamagen_a", "llamagen_b", "var_a", "var_b", "var_c")] model: &str,
    #[values("own", "null", "next")] condition: &str,
) {
    let Some(root) = visual() else { return };
    let expected = read_json(&root.join("logps").join(format!("{model}.json")));
    let folder = Folder::new();
    let data = folder.write("data.jsonl", rows_of(&root, model, array(&expected).len()));
    let path = root.join("models").join(model);
    let found = score(&folder, &path, &data, &["--condition", condition, "--batch-size", "3"]);
    // One by one, a row is what it is beside others.
    let alone = score(&folder, &path, &data, &["--condition", condition, "--batch-size", "1"]);
    let prefix = match condition {
        "own" => "",
        "null" => "null_",
        _ => "negative_",
    };
    assert_eq!(found.len(), array(&expected).len());
    for (row, ((found, alone), expected)) in found.iter().zip(&alone).zip(array(&expected)).enumerate() {
        let what = format!("{model}, row {row}, {condition}");
        assert_relative(number(&found["logps"]), number(&expected[format!("{prefix}logps")]), FAMILY_LOGPS, &what);
        assert_relative(number(&found["logps"]), number(&alone["logps"]), 1e-6, &what);
        let tokens = array(&expected[format!("{prefix}token_logps")]);
        assert_eq!(array(&found["token_logps"]).len(), tokens.len(), "{what}");
        for (found, expected) in array(&found["token_logps"]).iter().zip(tokens) {
            let off = (number(found) - number(expected)).abs();
            assert!(off <= FAMILY_TOKEN_LOGPS, "{what}: {found} {expected}");
        }
    }
}

/// The arguments of a run as its `case.json` describes it.
fn arguments(root: &Path, case: &str, output: &str) -> Vec<String> {
    let dir = root.join("train").join(case);
    let values = read_json(&dir.join("case.json"));
    let model = root.join(values["model"].as_str().expect("a path")).display().to_string();
    let data = dir.join("data.jsonl").display().to_string();
    let mut all: Vec<String> = ["train", "--model", &model, "--data", &data, "--objective", "cca", "--output", output]
        .map(str::to_owned)
        .into();
    let params = &values["params"];
    let settings = [
        ("objective.beta", params["beta"].to_string()),
        ("objective.lambda", params["lambda_"].to_string()),
        ("objective.masked", values["masked"].to_string()),
        ("max_steps", values["steps"].to_string()),
        ("per_device_train_batch_size", values["batch_rows"].to_string()),
        ("learning_rate", values["learning_rate"].to_string()),
        ("lr_scheduler_type", "constant".to_owned()),
        ("warmup_steps", values["warmup_steps"].to_string()),
        ("max_grad_norm", values["max_grad_norm"].to_string()),
        ("weight_decay", values["weight_decay"].to_string()),
        ("adam_beta1", values["adam_betas"][0].to_string()),
        ("adam_beta2", values["adam_betas"][1].to_string()),
        // The published recipes spare norms, biases and trained places.
        ("decay_norms", "false".to_owned()),
        ("shuffle", "false".to_owned()),
        ("sample_prompts", "0".to_owned()),
    ];
    all.extend(settings.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]));
    all
}

#[rstest]
fn every_step_is_that_of_pytorch(
    #[values(
        "cca_llamagen_a",
        "cca_llamagen_a_masked",
        "cca_llamagen_b",
        "cca_var_a",
        "cca_var_a_masked",
        "cca_var_b"
    )]
    case: &str,
    #[values("", "gradient_checkpointing=true")] variant: &str,
) {
    let Some(root) = visual() else { return };
    let folder = Folder::new();
    let mut args = arguments(&root, case, &folder.arg("run"));
    if !variant.is_empty() {
        args.extend(["--set".to_owned(), variant.to_owned()]);
    }
    succeed(&args);
    let dir = root.join("train").join(case);
    let text = std::fs::read_to_string(dir.join("expected.jsonl")).expect("golden");
    let expected: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    let rows = folder.rows("run/metrics.jsonl");
    assert_eq!(rows.len(), expected.len());
    let mean = |values: &Value| array(values).iter().map(number).sum::<f64>() / array(values).len() as f64;
    for (row, expected) in rows.iter().zip(&expected) {
        let what = format!("{case}, step {}", row["step"]);
        assert_relative(number(&row["loss"]), number(&expected["loss"]), LOSS, &what);
        assert_relative(number(&row["grad_norm"]), number(&expected["grad_norm"]), GRAD_NORM, &what);
        // Under its own condition a response is the chosen one, unless both conditions are the same.
        let is_plain = !array(&expected["counts_as_positive"]).contains(&Value::Bool(true));
        if is_plain {
            assert_relative(number(&row["logps/chosen"]), mean(&expected["policy_logps"]), LOSS, &what);
            assert_relative(number(&row["logps/rejected"]), mean(&expected["policy_negative_logps"]), LOSS, &what);
        }
    }
    let last = read_json(&dir.join("final.json"));
    let data = dir.join("data.jsonl").display().to_string();
    let found = score(&folder, &folder.path("run"), &data, &[]);
    for (found, expected) in found.iter().zip(array(&last["final_policy_logps"])) {
        assert_relative(number(&found["logps"]), number(expected), PICTURE_FINAL_LOGPS, case);
    }
}

#[rstest]
fn a_resumed_run_over_pictures_ends_with_the_same_bytes(#[values("cca_llamagen_b", "cca_var_b")] case: &str) {
    let Some(root) = visual() else { return };
    let folder = Folder::new();
    // Rows that are masked are drawn, and the order is shuffled.
    let run = |output: &str, more: &[&str]| {
        let mut args = arguments(&root, case, &folder.arg(output));
        let settings = ["objective.masked=null", "objective.uncond_ratio=0.3", "shuffle=true", "save_steps=3"];
        args.extend(settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]));
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        succeed(&args)
    };
    assert_resumed_ends_the_same(&folder, "model.safetensors", run);
}

#[rstest]
fn a_trained_model_has_the_tensors_of_the_published_one(#[values("cca_llamagen_a", "cca_var_b")] case: &str) {
    let Some(root) = visual() else { return };
    let folder = Folder::new();
    let mut args = arguments(&root, case, &folder.arg("run"));
    args.extend(["--set".to_owned(), "max_steps=1".to_owned()]);
    succeed(&args);
    let names = |path: PathBuf| -> Vec<String> {
        let bytes = std::fs::read(path).expect("weights");
        let length = u64::from_le_bytes(*bytes.first_chunk().expect("a header")) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
        let mut names: Vec<String> = header.as_object().expect("tensors").keys().cloned().collect();
        names.retain(|name| name != "__metadata__");
        names.sort();
        names
    };
    let model =
        read_json(&root.join("train").join(case).join("case.json"))["model"].as_str().expect("a path").to_owned();
    assert_eq!(names(folder.path("run/model.safetensors")), names(root.join(model).join("model.safetensors")));
}
