//! Objectives that see each response under the prompt of another row, on texts.

use std::f64::consts::LN_2;

use collimate_oracle::tolerances::{LOSS, assert_relative};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed};
use crate::resume::assert_resumed_ends_the_same;
use crate::small_model::model_arg;

/// Rows of one response each; the second and third have one prompt.
fn rows(folder: &Folder) -> String {
    let prompts = ["What is 2?", "What is 3?", "What is 3?", "What is 4?"];
    let row = |(number, prompt): (usize, &&str)| json!({"prompt": prompt, "completion": format!("{}", 7 * number)});
    folder
        .write("rows.jsonl", prompts.iter().enumerate().map(|row_of| format!("{}\n", row(row_of))).collect::<String>())
}

/// A run of `cca` over rows in their order.
fn train(folder: &Folder, data: &str, output: &str, settings: &[&str]) -> Vec<Value> {
    let run = folder.arg(output);
    let mut args = vec!["train", "--model", model_arg(), "--data", data, "--objective", "cca", "--output", &run];
    let fixed = ["objective.uncond_ratio=0", "sample_prompts=0", "warmup_ratio=0", "learning_rate=1e-3"];
    args.extend(fixed.iter().chain(settings).flat_map(|setting| ["--set", setting]));
    succeed(&args);
    folder.rows(&format!("{output}/metrics.jsonl"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, found {value}"))
}

/// Log-probs of each row's response under its own prompt or the next row's.
fn scores(folder: &Folder, data: &str, condition: &str) -> Vec<f64> {
    let output = folder.arg("scores.jsonl");
    succeed(&[
        "score",
        "--model",
        model_arg(),
        "--data",
        data,
        "--output",
        &output,
        "--condition",
        condition,
        "--force",
    ]);
    folder.rows("scores.jsonl").iter().map(|row| number(&row["responses"][0]["logps"])).collect()
}

#[test]
fn negatives_are_the_next_rows_prompts_and_the_same_prompt_counts_as_positive_twice() {
    let folder = Folder::new();
    let data = rows(&folder);
    let whole = ["per_device_train_batch_size=4", "max_steps=1", "shuffle=false", "objective.lambda=3"];
    let step = &train(&folder, &data, "code", &whole)[0];
    // At the start every term is ln 2: three rows have 1 + 3 of them, one has 1 + 1; divided by 3.
    assert_relative(number(&step["loss"]), (3.0 * 4.0 + 2.0) / 4.0 * LN_2 / 3.0, 1e-6, "code");
    let formula = [&whole[..], &["objective.form=formula"]].concat();
    let step = &train(&folder, &data, "formula", &formula)[0];
    // The paper's has one term of the row whose negative is its own, and no divisor.
    assert_relative(number(&step["loss"]), (3.0 * 4.0 + 1.0) / 4.0 * LN_2, 1e-6, "formula");

    // Rows 0 and 3, whose next ones have other prompts: one micro-batch each time.
    let text = folder.read("rows.jsonl");
    let lines: Vec<&str> = text.lines().collect();
    let two = folder.write("two.jsonl", format!("{}\n{}\n", lines[0], lines[3]));
    let pair = ["per_device_train_batch_size=2", "max_steps=1", "shuffle=false"];
    let step = &train(&folder, &two, "two", &pair)[0];
    let mean = |logps: Vec<f64>| logps.iter().sum::<f64>() / 2.0;
    assert_relative(number(&step["logps/chosen"]), mean(scores(&folder, &two, "own")), LOSS, "own prompts");
    assert_relative(number(&step["logps/rejected"]), mean(scores(&folder, &two, "next")), LOSS, "the next row's");
}

#[test]
fn a_lone_row_has_no_negative_and_a_language_model_no_null_condition() {
    let folder = Folder::new();
    let data = rows(&folder);
    let refused = |setting: &str| {
        let run = folder.arg("refused");
        let args = [
            "train",
            "--model",
            model_arg(),
            "--data",
            &data,
            "--objective",
            "cca",
            "--output",
            &run,
            "--set",
            setting,
        ];
        let outcome = collimate(&args);
        assert_eq!(outcome.code, 2, "{}", outcome.err);
        outcome.err
    };
    assert!(
        refused("per_device_train_batch_size=1").contains("compares each prompt with the next one of its micro-batch")
    );
    assert!(refused("objective.uncond_ratio=0.5").contains("the model has no null condition"));
}

#[rstest]
#[case::cca(&["objective.lambda=2"])]
#[case::kto(&["objective=kto", "objective.reference_point=mismatched"])]
fn a_resumed_run_over_pairs_of_texts_ends_with_the_same_bytes(#[case] settings: &[&str]) {
    let folder = Folder::new();
    let data = crate::resume::groups(&folder);
    let common = ["per_device_train_batch_size=3", "num_train_epochs=3", "save_steps=3", "eval_fraction=0.2"];
    let run = |output: &str, more: &[&str]| {
        let run = folder.arg(output);
        let mut args = vec!["train", "--model", model_arg(), "--data", &data, "--output", &run];
        let objective = if settings[0].starts_with("objective=") { settings[0] } else { "objective=cca" };
        let null = if objective == "objective=cca" { &["objective.uncond_ratio=0"][..] } else { &[] };
        let more_settings = settings.iter().filter(|setting| !setting.starts_with("objective="));
        let all = [objective, "sample_prompts=0", "learning_rate=1e-3"];
        let all = all.iter().chain(null).chain(more_settings).chain(&common);
        let all: Vec<&str> = all.copied().collect();
        args.extend(all.iter().flat_map(|setting| ["--set", setting]));
        args.extend(more);
        succeed(&args)
    };
    assert_resumed_ends_the_same(&folder, "model.safetensors", run);
}
