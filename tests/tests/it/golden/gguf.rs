//! Models as GGUF files, with values compared to the model's own.

use std::fs;
use std::path::PathBuf;

use collimate_hf::{HostTensor, QkNorm};
use collimate_oracle::gguf::{Found, GgufFile};
use collimate_oracle::golden_name;
use collimate_weights::{WeightFiles, read_config};
use rstest::rstest;

use super::{golden, golden_arg};
use crate::harness::{Folder, collimate, succeed};

fn text<'a>(file: &'a GgufFile, key: &str) -> &'a str {
    let Some(Found::Text(text)) = file.entries.get(key) else { panic!("no text {key}") };
    text
}

#[rstest]
fn every_weight_is_there_as_it_is(#[files("golden/*/golden.json")] family: PathBuf) {
    let model = golden_name(&family);
    let folder = Folder::new();
    let dir = folder.path("model");
    folder.copy(&golden(&format!("models/{model}")), "model");
    if model == "smollm3" {
        // llama.cpp leaves every fourth layer unrotated, the tiny model every second one, so it is refused as it is.
        let config = folder.read("model/config.json");
        let refused = collimate(&["export", "--model", &folder.arg("model"), "--output", &folder.arg("model.gguf")]);
        assert!(refused.code == 2 && refused.err.contains("no_rope_layers"), "{}", refused.err);
        let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        config["no_rope_layers"] = serde_json::json!([1, 1]);
        folder.write("model/config.json", config.to_string());
    }
    let output = folder.arg("model.gguf");
    let config = read_config(&dir).expect("a configuration");
    let export = ["export", "--model", &folder.arg("model"), "--output", &output, "--outtype", "f32"];
    if config.family.gguf.is_none() {
        let refused = collimate(&export);
        assert!(refused.code == 2 && refused.err.contains("llama.cpp has no such architecture"), "{}", refused.err);
        return;
    }
    succeed(&export);
    let file = GgufFile::read(output.as_ref());
    let weights = WeightFiles::open(&dir).expect("weights");
    let architecture = text(&file, "general.architecture");
    for (name, count) in
        [("block_count", config.num_hidden_layers), ("attention.head_count_kv", config.num_key_value_heads)]
    {
        assert_eq!(file.entries.get(&format!("{architecture}.{name}")), Some(&Found::Count(count as u32)), "{name}");
    }
    let Some(Found::Texts(tokens)) = file.entries.get("tokenizer.ggml.tokens") else { panic!("no tokens") };
    assert_eq!(tokens.len(), config.vocab_size);
    assert!(!text(&file, "tokenizer.chat_template").is_empty());

    let embeddings = weights.read("model.embed_tokens.weight").expect("embeddings");
    let found = &file.tensors["token_embd.weight"];
    assert_eq!((found.kind, found.shape.as_slice()), (0, &[config.vocab_size, config.hidden_size][..]));
    assert_eq!(found.floats(), embeddings.data);
    // The sum over all tensors equals that of the weights: rows are reordered and experts stacked, but nothing is lost.
    let sum = |tensor: &HostTensor| tensor.data.iter().map(|value| f64::from(*value)).sum::<f64>();
    let expected: f64 = config.tensors().iter().map(|spec| sum(&weights.read(&spec.name).expect("a weight"))).sum();
    let doubled = config.tie_word_embeddings && model == "olmo2";
    let of_heads = if config.qk_norm == QkNorm::Head { 2 * config.head_dim } else { 0 };
    let of_layers = config.num_hidden_layers * (4 * config.hidden_size + of_heads);
    let ones = if config.norm_offset { of_layers + config.hidden_size } else { 0 };
    let expected = expected + ones as f64 + if doubled { sum(&embeddings) } else { 0.0 };
    let found: f64 = file
        .tensors
        .iter()
        .filter(|(name, _)| !name.starts_with("rope_f"))
        .flat_map(|(_, tensor)| tensor.floats())
        .map(f64::from)
        .sum();
    assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{found} {expected}");
}

#[test]
fn an_adapter_is_exported_as_the_model_it_is_merged_into() {
    let folder = Folder::new();
    let (model, adapter) = (golden_arg("models/qwen2"), golden_arg("adapters/qwen2"));
    let merged = folder.arg("merged");
    succeed(&["merge", "--model", &model, "--adapter", &adapter, "--output", &merged]);
    let bytes = |args: &[&str]| {
        let output = folder.arg("model.gguf");
        succeed(&[&["export", "--outtype", "f16", "--name", "x", "--output", &output, "--force"][..], args].concat());
        fs::read(&output).expect("a file")
    };
    let direct = bytes(&["--model", &model, "--adapter", &adapter]);
    assert!(direct == bytes(&["--model", &merged]));
    assert!(direct != bytes(&["--model", &model]), "an adapter that changes nothing shows nothing");
}

#[rstest]
#[case("f16", 1)]
#[case("bf16", 30)]
#[case("q8_0", 8)]
#[case("q4_0", 2)]
fn matrices_have_the_type_asked_for_and_norms_do_not(#[case] outtype: &str, #[case] number: u32) {
    let folder = Folder::new();
    let output = folder.arg("model.gguf");
    succeed(&["export", "--model", &golden_arg("models/llama"), "--output", &output, "--outtype", outtype]);
    let file = GgufFile::read(output.as_ref());
    let kind = |name: &str| file.tensors[name].kind;
    assert_eq!(kind("blk.0.attn_q.weight"), number);
    assert_eq!(kind("blk.0.attn_norm.weight"), 0);
    assert_eq!(kind("token_embd.weight"), if outtype == "q4_0" { 8 } else { number });
}

#[test]
fn what_llama_cpp_cannot_be_told_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    let model = folder.copy(&golden("models/llama"), "model");
    let config = folder.read("model/config.json").replace("\"silu\"", "\"gelu\"");
    folder.write("model/config.json", config);
    let output = folder.arg("out/model.gguf");
    let outcome = collimate(&["export", "--model", &model, "--output", &output]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(outcome.err.contains("hidden_act"), "{}", outcome.err);
    assert!(!folder.path("out").exists());
    let unknown = collimate(&["export", "--model", &model, "--output", &output, "--outtype", "q9"]);
    assert!(unknown.code == 2 && unknown.err.contains("q8_0"), "{}", unknown.err);
}

/// A link to a private file would be published in the file.
#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_not_exported() {
    let folder = Folder::new();
    let model = folder.copy(&golden("models/llama"), "model");
    let secret = folder.write("secret", "private");
    fs::remove_file(folder.path("model/chat_template.jinja")).expect("a template");
    std::os::unix::fs::symlink(&secret, folder.path("model/chat_template.jinja")).expect("a link");
    let outcome = collimate(&["export", "--model", &model, "--output", &folder.arg("model.gguf")]);
    assert_ne!(outcome.code, 0);
    assert!(outcome.err.contains("link out of the folder"), "{}", outcome.err);
    assert!(!folder.path("model.gguf").exists());
}

/// Published gpt-oss has YaRN without whole ends, and its publisher's GGUF files are rounded all the same.
#[test]
fn what_llama_cpp_rounds_in_its_publishers_files_too_is_noted() {
    let folder = Folder::new();
    folder.copy(&golden("models/gpt_oss"), "model");
    let mut config: serde_json::Value = serde_json::from_str(&folder.read("model/config.json")).expect("JSON");
    config["rope_scaling"]["truncate"] = serde_json::json!(false);
    folder.write("model/config.json", config.to_string());
    let outcome = collimate(&["export", "--model", &folder.arg("model"), "--output", &folder.arg("model.gguf")]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.err.contains("llama.cpp rounds the ends of YaRN's ramp"), "{}", outcome.err);
}
