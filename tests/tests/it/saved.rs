//! What a model's files hold is what is computed, and what is saved is what was measured.

use std::fs;
use std::path::Path;

use collimate_files::ShardSize;
use collimate_hf::HostTensor;
use collimate_oracle::gguf::GgufFile;
use collimate_weights::{StorageDtype, WeightFiles, read_config, write_model, write_safetensors};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed};
use crate::small_model::{adapter_arg, model, write_model_with};

const ROWS: &str = concat!(
    r#"{"prompt": "2 + 2 =", "responses": [{"content": " 4", "reward": 1}, {"content": " 5", "reward": 0}]}"#,
    "\n",
    r#"{"prompt": "3 + 4 =", "responses": [{"content": " 7", "reward": 1}, {"content": " 8 or so", "reward": 0}]}"#,
    "\n",
    r#"{"prompt": "1 + 9 =", "responses": [{"content": " 10", "reward": 1}, {"content": " 91", "reward": 0}]}"#,
    "\n",
    r#"{"prompt": "6 - 2 =", "responses": [{"content": " 4, for sure", "reward": 1}, {"content": " 8", "reward": 0}]}"#,
    "\n",
);

/// Sums of log-probs of all responses.
fn scores(folder: &Folder, model: &str, more: &[&str]) -> Vec<f64> {
    let data = folder.write("rows.jsonl", ROWS);
    let output = folder.arg("scores.jsonl");
    let _ = fs::remove_file(&output);
    succeed(&[&["score", "--model", model, "--data", &data, "--output", &output], more].concat());
    let logp = |response: &Value| response["logps"].as_f64().expect("a number");
    let rows = folder.rows("scores.jsonl");
    rows.iter().flat_map(|row| row["responses"].as_array().expect("responses").iter().map(logp)).collect()
}

/// The mean of the first response's log-prob less the second's.
fn margin(folder: &Folder, model: &str) -> f64 {
    let scores = scores(folder, model, &[]);
    scores.chunks(2).map(|pair| pair[0] - pair[1]).sum::<f64>() / (scores.len() / 2) as f64
}

/// All tensors of a folder.
fn tensors(dir: &Path) -> Vec<(String, HostTensor)> {
    let weights = WeightFiles::open(dir).expect("weights");
    let names: Vec<String> = weights.names().map(str::to_owned).collect();
    names.into_iter().map(|name| (name.clone(), weights.read(&name).expect("a tensor"))).collect()
}

/// A model whose configuration ties an output layer that its weights hold, and the same model not tied.
fn mislabeled(folder: &Folder) -> (String, String) {
    write_model_with(&folder.path("untied"), &json!({}));
    folder.copy(&folder.path("untied"), "tied");
    let config =
        folder.read("tied/config.json").replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    assert!(config.contains("\"tie_word_embeddings\": true"), "{config}");
    folder.write("tied/config.json", config);
    (folder.arg("tied"), folder.arg("untied"))
}

#[test]
fn a_stored_head_is_used_whatever_the_configuration_says() {
    let folder = Folder::new();
    let (tied, untied) = mislabeled(&folder);
    assert_eq!(scores(&folder, &tied, &[]), scores(&folder, &untied, &[]));
    let data = folder.arg("rows.jsonl");
    let outcome = collimate(&["score", "--model", &tied, "--data", &data, "--output", &folder.arg("s.jsonl")]);
    assert!(
        outcome.err.contains("warning: ") && outcome.err.contains("tie_word_embeddings is true"),
        "{}",
        outcome.err
    );
    // What is made of it has the head, and says so.
    succeed(&["train", "--model", &tied, "--data", &data, "--output", &folder.arg("out"), "--set", "max_steps=1"]);
    succeed(&["merge", "--model", &tied, "--adapter", adapter_arg(), "--output", &folder.arg("merged")]);
    for made in ["out", "merged"] {
        let config = read_config(&folder.path(made)).expect("a configuration");
        assert!(!config.tie_word_embeddings && config.notes.is_empty(), "{made}");
        assert!(WeightFiles::open(&folder.path(made)).expect("weights").shape("lm_head.weight").is_some(), "{made}");
    }
    let output = folder.arg("model.gguf");
    succeed(&["export", "--model", &tied, "--output", &output, "--outtype", "f32", "--tokenizer-pre", "gpt-2"]);
    assert!(GgufFile::read(&folder.path("model.gguf")).tensors.contains_key("output.weight"));
}

#[test]
fn a_stored_head_that_is_the_embedding_stays_tied() {
    let folder = Folder::new();
    let config = write_model_with(&folder.path("model"), &json!({ "tie_word_embeddings": true }));
    let mut all = tensors(&folder.path("model"));
    let embedding = all.iter().find(|(name, _)| *name == config.embedding().name).expect("an embedding").1.clone();
    all.push(("lm_head.weight".to_owned(), embedding));
    let before = scores(&folder, &folder.arg("model"), &[]);
    write_safetensors(&folder.path("model/model.safetensors"), all, StorageDtype::F32).expect("weights");
    let config = read_config(&folder.path("model")).expect("a configuration");
    assert!(config.tie_word_embeddings && config.notes.is_empty());
    assert_eq!(scores(&folder, &folder.arg("model"), &[]), before);
}

#[test]
fn a_tied_model_may_be_saved_with_its_output_layer_alone() {
    let folder = Folder::new();
    let config = write_model_with(&folder.path("model"), &json!({ "tie_word_embeddings": true }));
    let before = scores(&folder, &folder.arg("model"), &[]);
    let embedding = config.embedding().name;
    let renamed = |(name, tensor)| (if name == embedding { "lm_head.weight".to_owned() } else { name }, tensor);
    let all: Vec<_> = tensors(&folder.path("model")).into_iter().map(renamed).collect();
    write_safetensors(&folder.path("model/model.safetensors"), all, StorageDtype::F32).expect("weights");
    assert_eq!(scores(&folder, &folder.arg("model"), &[]), before);
}

/// The weights of the small model under other names.
#[rstest]
#[case::without_prefix(|name: &str| name.trim_start_matches("model.").to_owned(), &[])]
#[case::data_parallel(|name: &str| format!("module.{name}"), &[])]
#[case::compiled(|name: &str| format!("_orig_mod.{name}"), &[])]
#[case::wrapped_by_peft(|name: &str| format!("base_model.model.{name}"), &[])]
#[case::value_head(|name: &str| name.to_owned(), &["v_head.summary.weight", "v_head.summary.bias"])]
#[case::classifier(|name: &str| name.to_owned(), &["score.weight"])]
#[case::buffers(|name: &str| name.to_owned(), &["model.layers.0.self_attn.masked_bias"])]
fn weights_under_other_names_and_beside_others_are_read(#[case] renamed: fn(&str) -> String, #[case] more: &[&str]) {
    let folder = Folder::new();
    let expected = scores(&folder, model().to_str().expect("text"), &[]);
    let dir = folder.copy(model(), "model");
    let mut all: Vec<_> = tensors(model()).into_iter().map(|(name, tensor)| (renamed(&name), tensor)).collect();
    all.extend(more.iter().map(|name| ((*name).to_owned(), HostTensor::zeros([1]))));
    write_safetensors(&folder.path("model/model.safetensors"), all, StorageDtype::F32).expect("weights");
    assert_eq!(scores(&folder, &dir, &[]), expected);
    let args = ["score", "--model", &dir, "--data", &folder.arg("rows.jsonl"), "--output", &folder.arg("s.jsonl")];
    let outcome = collimate(&args);
    for name in more {
        assert!(outcome.err.contains("passed over") && outcome.err.contains(name), "{name}: {}", outcome.err);
    }
}

#[test]
fn a_single_file_wins_over_an_index_beside_it() {
    let folder = Folder::new();
    let expected = scores(&folder, model().to_str().expect("text"), &[]);
    let dir = folder.copy(model(), "model");
    let other = tensors(model()).into_iter().map(|(name, t)| (name, HostTensor::zeros(t.shape)));
    let other: Vec<_> = other.collect();
    let names: serde_json::Map<String, Value> =
        other.iter().map(|(name, _)| (name.clone(), json!("model-00001-of-00001.safetensors"))).collect();
    write_safetensors(&folder.path("model/model-00001-of-00001.safetensors"), other, StorageDtype::F32)
        .expect("a shard");
    folder.write("model/model.safetensors.index.json", json!({ "weight_map": names }).to_string());
    assert_eq!(scores(&folder, &dir, &[]), expected);
}

/// `huggingface-cli download --local-dir` left links into a folder beside until huggingface_hub 0.23.
#[cfg(unix)]
#[test]
fn a_model_of_links_is_trained_and_its_files_are_copied() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    folder.copy(model(), "store");
    fs::create_dir(folder.path("model")).expect("a folder");
    for entry in fs::read_dir(folder.path("store")).expect("a folder") {
        let name = entry.expect("an entry").file_name();
        symlink(Path::new("../store").join(&name), folder.path("model").join(&name)).expect("a link");
    }
    let data = folder.write("rows.jsonl", ROWS);
    let (model, output) = (folder.arg("model"), folder.arg("out"));
    succeed(&["train", "--model", &model, "--data", &data, "--output", &output, "--set", "max_steps=1"]);
    assert_eq!(folder.read("out/tokenizer.json"), folder.read("store/tokenizer.json"));
    assert!(!folder.path("out/tokenizer.json").is_symlink());
}

#[cfg(unix)]
#[rstest]
#[case::private_file("vocab.json", "a link out of the folder")]
#[case::gone("", "README.md")]
fn what_would_fail_at_the_end_fails_before_the_first_step(#[case] linked: &str, #[case] expected: &str) {
    let folder = Folder::new();
    folder.copy(model(), "model");
    if linked.is_empty() {
        // A folder where the model card will be.
        fs::create_dir_all(folder.path("out/README.md")).expect("a folder");
    } else {
        let secret = folder.write("secret", "private");
        std::os::unix::fs::symlink(&secret, folder.path("model").join(linked)).expect("a link");
    }
    let data = folder.write("rows.jsonl", ROWS);
    let (model, output) = (folder.arg("model"), folder.arg("out"));
    let outcome = collimate(&["train", "--model", &model, "--data", &data, "--output", &output]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains(expected), "{}", outcome.err);
    assert!(!folder.path("out/metrics.jsonl").exists());
}

/// A base stored in bfloat16.
fn write_bfloat16(folder: &Folder) -> String {
    let dir = folder.path("base");
    write_model_with(&dir, &json!({ "dtype": "bfloat16" }));
    let config = read_config(&dir).expect("a configuration");
    let all = tensors(&dir);
    write_model(&dir, &config, all, StorageDtype::BF16, ShardSize::default()).expect("a model");
    folder.arg("base")
}

#[test]
fn small_updates_of_a_bfloat16_base_are_saved_in_float32() {
    let folder = Folder::new();
    let base = write_bfloat16(&folder);
    let data = folder.write("rows.jsonl", ROWS);
    let train = |output: &str, more: &[&str]| {
        let output = folder.arg(output);
        let settings =
            ["learning_rate=5e-7", "lr_scheduler_type=constant", "max_steps=8", "per_device_train_batch_size=4"];
        let mut args = vec!["train", "--model", &base, "--data", &data, "--output", &output, "--objective", "dpo"];
        settings.iter().chain(more).for_each(|setting| args.extend(["--set", setting]));
        let outcome = collimate(&args);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        outcome.err + &outcome.out
    };
    let log = train("out", &[]);
    let checkpoint = fs::read_dir(folder.path("out")).expect("a folder").flatten().map(|entry| entry.path());
    let checkpoint = checkpoint.into_iter().find(|path| path.display().to_string().contains("checkpoint-"));
    let checkpoint = checkpoint.expect("a checkpoint");
    folder.copy(&checkpoint, "measured");
    fs::copy(folder.path("base/tokenizer.json"), folder.path("measured/tokenizer.json")).expect("a file");
    fs::copy(folder.path("base/tokenizer_config.json"), folder.path("measured/tokenizer_config.json")).expect("a file");
    let measured = margin(&folder, &folder.arg("measured"));
    let before = margin(&folder, &base);
    assert!(measured > before + 1e-4, "{before} to {measured}");
    assert_eq!(margin(&folder, &folder.arg("out")), measured, "what is saved is what was measured");
    assert!(folder.read("out/config.json").contains("float32"));
    let line = log.lines().find(|line| line.contains("saved in float32: margin")).expect("a line");
    assert!(line.contains(&format!("{before:.4} before, {measured:.4} trained")), "{line}");
    // Asked for by name, bfloat16 is what is written, with a warning.
    let log = train("rounded", &["torch_dtype=bfloat16"]);
    assert!(log.contains("warning: saved in bfloat16: margin"), "{log}");
    let rounded = margin(&folder, &folder.arg("rounded"));
    assert!((rounded - before).abs() < 0.8 * (measured - before).abs(), "{before} to {measured}, rounded {rounded}");
    assert!(log.contains(&format!("{rounded:.4} in bfloat16")), "{log}");
}
