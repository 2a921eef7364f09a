//! Compares the tokens that files beside `tokenizer.json` add with those of transformers.
//!
//! `tests/python/text_fixtures.py` has made the values.

use std::collections::BTreeMap;
use std::fs;

use collimate_oracle::golden_dir;
use collimate_text::TextTokenizer;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Fixture {
    text: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    post_processor: Value,
    files: BTreeMap<String, Value>,
    ids: Vec<u32>,
    named: BTreeMap<String, u32>,
    without_special: String,
}

#[test]
fn tokens_come_from_every_file_that_names_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/added_tokens.json");
    let fixture: Fixture = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let file = golden_dir().join("models/llama/tokenizer.json");
    let base: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(fixture.cases.len(), 2 * 27);
    for Case { name, post_processor, files, ids, named, without_special } in fixture.cases {
        let folder = tempfile::tempdir().unwrap();
        let mut tokenizer = base.clone();
        tokenizer["post_processor"] = post_processor;
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        fs::write(folder.path().join("config.json"), r#"{"vocab_size": 648}"#).unwrap();
        for (file, content) in files {
            fs::write(folder.path().join(file), content.to_string()).unwrap();
        }
        let tokenizer = TextTokenizer::from_model_dir(folder.path()).unwrap();
        assert_eq!(tokenizer.encode(&fixture.text, true).unwrap(), ids, "{name}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), without_special, "{name}");
        let found = [
            ("bos_token", tokenizer.bos_id()),
            ("eos_token", Some(tokenizer.eos_id())),
            ("pad_token", tokenizer.pad_id()),
        ];
        for (field, id) in found {
            assert_eq!(id, named.get(field).copied(), "{name}, {field}");
        }
    }
}
