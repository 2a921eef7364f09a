//! Runs over the quickstart's generator of pictures, and over token maps in safetensors.

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, Outcome, collimate, succeed};
use crate::resume::assert_resumed_ends_the_same;
use crate::small_model;

/// The quickstart's generator, and rows of it: pictures that are shapes.
fn generator(folder: &Folder, count: usize) -> String {
    collimate_pictures::assets::write_base(&folder.path("base")).expect("a generator");
    let codebook = collimate_pictures::codebook::PatchCodebook::read(&folder.path("base")).expect("a codebook");
    let row = |number: usize| {
        let class = number * 3 % 10;
        let shape = collimate_pictures::shapes::Shape::random(class, 5, number as u64);
        format!("{}\n", json!({"condition": class, "tokens": codebook.encode(&shape.draw())}))
    };
    folder.write("shapes.jsonl", (0..count).map(row).collect::<String>())
}

/// A run over these rows.
fn train(folder: &Folder, data: &str, output: &str, settings: &[&str], more: &[&str]) -> Outcome {
    let (base, run) = (folder.arg("base"), folder.arg(output));
    let mut args = vec!["train", "--model", &base, "--data", data, "--objective", "cca", "--output", &run];
    let fixed = [
        "per_device_train_batch_size=4",
        "sample_prompts=0",
        "learning_rate=1e-3",
        "save_steps=3",
        "objective.lambda=2",
    ];
    args.extend(fixed.iter().chain(settings).flat_map(|setting| ["--set", setting]));
    args.extend(more);
    succeed(&args)
}

fn scores(folder: &Folder, data: &str, arguments: &[&str]) -> Vec<f64> {
    let output = folder.arg("scores.jsonl");
    let all = ["score", "--data", data, "--output", &output, "--force"];
    succeed(&[&all, arguments].concat());
    let logps = |row: &Value| row["responses"][0]["logps"].as_f64().expect("a number");
    folder.rows("scores.jsonl").iter().map(logps).collect()
}

#[rstest]
#[case::adapter(&["use_peft=true", "lora_r=4", "lora_dropout=0.1"], "adapter_model.safetensors")]
#[case::dropout(&["model_dropout=published"], "model.safetensors")]
#[case::adapter_and_dropout(&["use_peft=true", "lora_dropout=0", "model_dropout=published"], "adapter_model.safetensors")]
fn a_resumed_run_of_a_generator_ends_with_the_same_bytes(#[case] settings: &[&str], #[case] weights: &str) {
    let folder = Folder::new();
    let data = generator(&folder, 16);
    let run = |output: &str, more: &[&str]| {
        train(&folder, &data, output, &[settings, &["num_train_epochs=2"]].concat(), more)
    };
    assert_resumed_ends_the_same(&folder, weights, run);
    let bytes = |run: &str| std::fs::read(folder.path(run).join(weights)).expect("the trained weights");
    // Blocks that run again draw the same.
    let again = [settings, &["num_train_epochs=2", "gradient_checkpointing=true"]].concat();
    train(&folder, &data, "again", &again, &[]);
    assert!(bytes("whole") == bytes("again"), "the weights differ");
}

#[test]
fn published_dropout_changes_the_steps_and_not_the_scores() {
    let folder = Folder::new();
    let data = generator(&folder, 8);
    let losses = |output: &str, settings: &[&str]| -> Vec<f64> {
        train(&folder, &data, output, &[settings, &["shuffle=false", "objective.uncond_ratio=0"]].concat(), &[]);
        folder
            .rows(&format!("{output}/metrics.jsonl"))
            .iter()
            .map(|row| row["loss"].as_f64().expect("a loss"))
            .collect()
    };
    let (none, published) = (losses("none", &[]), losses("published", &["model_dropout=published"]));
    // Policy and reference agree at the start without dropout alone: each of the terms is ln 2, 1 + 2 of them over 2.
    assert!((none[0] - 1.5 * std::f64::consts::LN_2).abs() < 1e-6, "{none:?}");
    assert!((published[0] - none[0]).abs() > 1e-4, "{published:?}");
    assert_eq!(published, losses("again", &["model_dropout=published"]));
    let outcome = collimate(&[
        "train",
        "--model",
        small_model::model_arg(),
        "--data",
        &data,
        "--output",
        &folder.arg("refused"),
        "--set",
        "model_dropout=published",
    ]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("llama was published without any"), "{}", outcome.err);
}

#[test]
fn an_adapter_of_a_generator_is_what_it_is_merged() {
    let folder = Folder::new();
    let data = generator(&folder, 16);
    train(&folder, &data, "adapter", &["use_peft=true", "lora_r=4", "num_train_epochs=3"], &[]);
    let (base, adapter, merged) = (folder.arg("base"), folder.arg("adapter"), folder.arg("merged"));
    let apart = scores(&folder, &data, &["--model", &base, "--adapter", &adapter]);
    succeed(&["merge", "--model", &base, "--adapter", &adapter, "--output", &merged, "--dtype", "float32"]);
    let together = scores(&folder, &data, &["--model", &merged]);
    let before = scores(&folder, &data, &["--model", &base]);
    for ((apart, together), before) in apart.iter().zip(&together).zip(&before) {
        assert!((apart - together).abs() <= 1e-5 * together.abs(), "{apart} {together}");
        assert!((apart - before).abs() > 1e-3, "the adapter changes nothing");
    }
}

/// A safetensors file of whole numbers of 64 bits, by name, shape and values.
fn maps(tensors: &[(&str, &[usize], Vec<i64>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let start = data.len();
        values.iter().for_each(|value| data.extend(value.to_le_bytes()));
        header.insert((*name).to_owned(), json!({"dtype": "I64", "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let header = Value::Object(header).to_string();
    [(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), &data].concat()
}

#[test]
fn token_maps_in_safetensors_are_rows_like_those_of_json_lines() {
    let folder = Folder::new();
    let lines = generator(&folder, 6);
    let rows = folder.rows("shapes.jsonl");
    let numbers = |value: &Value| -> Vec<i64> {
        value.as_array().expect("numbers").iter().map(|x| x.as_i64().expect("a number")).collect()
    };
    let tokens: Vec<i64> = rows.iter().flat_map(|row| numbers(&row["tokens"])).collect();
    let conditions: Vec<i64> = rows.iter().map(|row| row["condition"].as_i64().expect("a number")).collect();
    let all = |tokens: Vec<i64>| maps(&[("condition", &[6], conditions.clone()), ("tokens", &[6, 8, 8], tokens)]);
    let data = folder.write("maps.safetensors", all(tokens.clone()));
    let base = folder.arg("base");
    assert_eq!(scores(&folder, &data, &["--model", &base]), scores(&folder, &lines, &["--model", &base]));
    let described = |data: &str| {
        let checked = succeed(&["data", "check", data, "--model", &base]).out.replace(data, "DATA");
        let stats: Value = serde_json::from_str(&succeed(&["data", "stats", data, "--json"]).out).expect("JSON");
        (checked, stats["num_groups"].clone(), stats["num_responses"].clone())
    };
    assert_eq!(described(&data), described(&lines));

    // What is wrong is named with file and tensor, or file and row.
    let check = |name: &str, bytes: Vec<u8>| {
        let data = folder.write(name, bytes);
        let outcome = collimate(&["data", "check", &data, "--model", &base]);
        assert_ne!(outcome.code, 0, "{name}");
        outcome.out + &outcome.err
    };
    let missing = check("missing.safetensors", maps(&[("tokens", &[6, 64], tokens.clone())]));
    assert!(
        missing.contains("missing.safetensors: this is a safetensors file: tensor \"condition\": it is missing"),
        "{missing}"
    );
    let mut wrong = tokens;
    wrong[64 + 3] = -1;
    let wrong = check("wrong.safetensors", all(wrong));
    assert!(wrong.contains("wrong.safetensors:2: field \"tokens[3]\"") && wrong.contains("a token id"), "{wrong}");
}
