//! End-of-text tokens in the configurations of folders.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use collimate_hf::{name_ends, named_ends};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;

const GENERATION: &str = "generation_config.json";
const MODEL: &str = "config.json";

fn folder(files: &[(&str, Value)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, json) in files {
        fs::write(dir.path().join(name), json.to_string()).unwrap();
    }
    dir
}

fn found(dir: &TempDir, name: &str) -> Option<Value> {
    fs::read_to_string(dir.path().join(name)).ok().map(|text| serde_json::from_str(&text).unwrap())
}

// A base model whose EOS ends a text, trained on turns that end in 2.
#[rstest]
#[case::no_list(json!({"eos_token_id": 0, "pad_token_id": 0, "vocab_size": 9}), None,
    json!({"eos_token_id": [2, 0], "pad_token_id": 0, "vocab_size": 9}),
    Some(json!({"eos_token_id": [2, 0], "pad_token_id": 0})))]
#[case::other_list(json!({"eos_token_id": 0}), Some(json!({"eos_token_id": [0, 7], "top_k": 20})),
    json!({"eos_token_id": [2, 0]}), Some(json!({"eos_token_id": [2, 0, 7], "top_k": 20})))]
#[case::silent_list(json!({"eos_token_id": [2, 0]}), Some(json!({"top_k": 20})),
    json!({"eos_token_id": [2, 0]}), Some(json!({"top_k": 20, "eos_token_id": [2, 0]})))]
#[case::only_one_listed(json!({"eos_token_id": 2}), Some(json!({"eos_token_id": 2})),
    json!({"eos_token_id": 2}), Some(json!({"eos_token_id": [2, 0]})))]
#[case::no_eos(json!({}), None, json!({"eos_token_id": [2, 0]}), Some(json!({"eos_token_id": [2, 0]})))]
#[case::only_in_the_model(json!({"eos_token_id": [0, 2]}), None, json!({"eos_token_id": [0, 2]}), None)]
#[case::named(json!({"eos_token_id": 2}), Some(json!({"eos_token_id": [0, 2]})),
    json!({"eos_token_id": 2}), Some(json!({"eos_token_id": [0, 2]})))]
fn a_model_names_the_end_that_was_trained(
    #[case] config: Value,
    #[case] generation: Option<Value>,
    #[case] named: Value,
    #[case] named_for_generation: Option<Value>,
) {
    let mut files = vec![(MODEL, config)];
    files.extend(generation.map(|json| (GENERATION, json)));
    let dir = folder(&files);
    name_ends(dir.path(), dir.path(), &[2, 0]).unwrap();
    assert_eq!(found(&dir, MODEL), Some(named));
    assert_eq!(found(&dir, GENERATION), named_for_generation);
}

#[test]
fn files_that_name_the_ends_keep_their_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (config, generation) = ("{\"eos_token_id\":\n 5}", "{ \"eos_token_id\": [5, 6], \"temperature\": 0.60 }");
    fs::write(dir.path().join(MODEL), config).unwrap();
    fs::write(dir.path().join(GENERATION), generation).unwrap();
    name_ends(dir.path(), dir.path(), &[5, 6]).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join(MODEL)).unwrap(), config);
    assert_eq!(fs::read_to_string(dir.path().join(GENERATION)).unwrap(), generation);
}

#[test]
fn an_adapter_gets_a_list_if_its_base_lacks_the_end() {
    let base = folder(&[(MODEL, json!({"eos_token_id": 0, "bos_token_id": 1}))]);
    let adapter = folder(&[]);
    name_ends(adapter.path(), base.path(), &[2, 0]).unwrap();
    assert_eq!(found(&adapter, MODEL), None);
    assert_eq!(found(&adapter, GENERATION), Some(json!({"bos_token_id": 1, "eos_token_id": [2, 0]})));
    assert_eq!(named_ends(adapter.path()).unwrap(), [2, 0]);
    let named = folder(&[]);
    name_ends(named.path(), base.path(), &[0]).unwrap();
    assert_eq!(found(&named, GENERATION), None);
}

#[test]
fn what_is_no_token_id_is_named() {
    let dir = folder(&[(MODEL, json!({"eos_token_id": "</s>"}))]);
    let error = name_ends(dir.path(), dir.path(), &[2]).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("eos_token_id"), "{error}");
}
