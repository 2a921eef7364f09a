//! Broken folders of models and adapters.

use std::fs;

use collimate_hf::{FAMILIES, WRAPPERS};
use insta::assert_snapshot;
use serde_json::{Value, json};

use super::shown;
use crate::harness::{Folder, Outcome, collimate};
use crate::small_model::{adapter, model, model_arg};

/// A change to a copy of a sound folder.
type Breaking = fn(&Folder);

const MODELS: &[(&str, Breaking)] = &[
    ("no config.json", |folder| remove(folder, "config.json")),
    ("config.json is cut off", |folder| replace(folder, "config.json", b"{\"model_type\": ")),
    ("unknown architecture", |folder| configure(folder, "model_type", json!("mamba"))),
    ("no hidden_size", |folder| configure(folder, "hidden_size", Value::Null)),
    ("hidden_size is text", |folder| configure(folder, "hidden_size", json!("big"))),
    ("another hidden_size", |folder| configure(folder, "hidden_size", json!(128))),
    ("more layers than weights", |folder| configure(folder, "num_hidden_layers", json!(9))),
    ("fewer layers than weights", |folder| configure(folder, "num_hidden_layers", json!(1))),
    ("heads that do not divide", |folder| configure(folder, "num_key_value_heads", json!(3))),
    ("unknown activation", |folder| configure(folder, "hidden_act", json!("swish2"))),
    ("unknown rotary scaling", |folder| {
        configure(folder, "rope_parameters", Value::Null);
        configure(folder, "rope_scaling", json!({"rope_type": "magic", "factor": 2.0}));
    }),
    ("no weights", |folder| remove(folder, "model.safetensors")),
    ("weights cut off", |folder| {
        let bytes = fs::read(folder.path("model/model.safetensors")).expect("weights");
        replace(folder, "model.safetensors", &bytes[..bytes.len() / 2]);
    }),
    ("weights are text", |folder| replace(folder, "model.safetensors", b"version https://example.org/spec/v1\n")),
    ("index of a shard that is not there", |folder| {
        remove(folder, "model.safetensors");
        let index = json!({"weight_map": {"model.embed_tokens.weight": "model-00001-of-00002.safetensors"}});
        replace(folder, "model.safetensors.index.json", index.to_string().as_bytes());
    }),
    ("no tokenizer", |folder| remove(folder, "tokenizer.json")),
    ("tokenizer is no JSON", |folder| replace(folder, "tokenizer.json", b"{")),
    ("chat template cut off", |folder| replace(folder, "chat_template.jinja", b"{% for m in messages %}")),
];

const ADAPTERS: &[(&str, Breaking)] = &[
    ("no adapter_config.json", |folder| remove(folder, "adapter_config.json")),
    ("adapter_config.json is no JSON", |folder| replace(folder, "adapter_config.json", b"r: 8")),
    ("adapter of another kind", |folder| adapt(folder, "peft_type", json!("IA3"))),
    ("another rank than the weights'", |folder| adapt(folder, "r", json!(3))),
    ("rank is missing", |folder| adapt(folder, "r", Value::Null)),
    ("no adapter weights", |folder| remove(folder, "adapter_model.safetensors")),
    ("a target without weights", |folder| adapt(folder, "target_modules", json!(["q_proj", "lm_head"]))),
];

#[test]
fn broken_model_folders() {
    let mut snapshot = String::new();
    for (name, breaking) in MODELS {
        let folder = Folder::new();
        folder.copy(model(), "model");
        breaking(&folder);
        snapshot += &shown(name, &folder, &score(&folder, &["--model", &folder.arg("model")]));
    }
    // A new family must not change this.
    let wrappers = WRAPPERS.iter().map(|wrapper| wrapper.model_type);
    let families: Vec<_> = FAMILIES.iter().map(|family| family.model_type).chain(wrappers).collect();
    assert_snapshot!(snapshot.replace(&families.join(", "), "FAMILIES"));
}

#[test]
fn broken_adapter_folders() {
    let mut snapshot = String::new();
    for (name, breaking) in ADAPTERS {
        let folder = Folder::new();
        folder.copy(adapter(), "model");
        breaking(&folder);
        let args = ["--model", model_arg(), "--adapter", &folder.arg("model")];
        snapshot += &shown(name, &folder, &score(&folder, &args));
    }
    let folder = Folder::new();
    let args = ["--model", model_arg(), "--adapter", model_arg()];
    snapshot += &shown("a model in place of an adapter", &folder, &score(&folder, &args));
    assert_snapshot!(snapshot);
}

fn score(folder: &Folder, args: &[&str]) -> Outcome {
    let row = r#"{"prompt": [{"role": "user", "content": "p"}], "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#;
    let text = r#"{"prompt": "p", "responses": [{"content": "a", "reward": 1}, {"content": "b", "reward": 0}]}"#;
    let with_messages = args.len() == 2;
    let data = folder.write("d.jsonl", if with_messages { row } else { text });
    let output = folder.arg("out.jsonl");
    let all: Vec<&str> =
        ["score", "--data", &data, "--output", &output, "--quiet"].into_iter().chain(args.iter().copied()).collect();
    collimate(&all)
}

fn remove(folder: &Folder, name: &str) {
    fs::remove_file(folder.path("model").join(name)).expect("a file to remove");
}

fn replace(folder: &Folder, name: &str, content: &[u8]) {
    folder.write(&format!("model/{name}"), content);
}

fn configure(folder: &Folder, key: &str, value: Value) {
    edit(folder, "config.json", key, value);
}

fn adapt(folder: &Folder, key: &str, value: Value) {
    edit(folder, "adapter_config.json", key, value);
}

/// Sets a field of a JSON file, or removes it if `null`.
fn edit(folder: &Folder, name: &str, key: &str, value: Value) {
    let mut config: Value = serde_json::from_str(&folder.read(&format!("model/{name}"))).expect("JSON");
    let fields = config.as_object_mut().expect("an object");
    fields.shift_remove(key);
    if !value.is_null() {
        fields.insert(key.to_owned(), value);
    }
    replace(folder, name, config.to_string().as_bytes());
}
