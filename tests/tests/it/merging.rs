//! What `merge` and `export` never write, and what they leave where they were killed or refused.

use std::fs;
use std::path::Path;

use collimate_hf::HostTensor;
use collimate_peft::{Adapter, LoraConfig, LoraTargets};
use rstest::rstest;
use serde_json::json;

use crate::harness::{Folder, collimate, train};
use crate::small_model::{adapter_arg, model_arg, write_model_with};

/// An adapter that adds 2 · `value` to each weight of the second layer's queries.
fn adapter_of(folder: &Folder, value: f32) -> String {
    let factors = (HostTensor::new([1, 64], vec![value; 64]), HostTensor::new([64, 1], vec![1.0; 64]));
    let targets = LoraTargets::Names(vec!["layers.1.self_attn.q_proj".to_owned()]);
    let modules = [("model.layers.1.self_attn.q_proj".to_owned(), factors)];
    let adapter = Adapter::of_factors(LoraConfig::new(1, 2.0, targets), modules);
    adapter.write(&folder.path("adapter")).expect("an adapter");
    folder.arg("adapter")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().display().to_string()).collect();
    names.sort();
    names
}

#[rstest]
#[case("merge --dtype float32", 3e38, "would be inf")]
#[case("merge --dtype float16", 3e38, "would be inf")]
#[case("merge --dtype bfloat16", 3e38, "would be inf")]
#[case("merge --dtype float32 --max-shard-size 50KB", 3e38, "would be inf")]
#[case("merge --dtype float16", 4e4, "does not fit float16")]
#[case("export --tokenizer-pre gpt-2 --outtype f32", 3e38, "would be inf")]
#[case("export --tokenizer-pre gpt-2 --outtype f16", 3e38, "would be inf")]
#[case("export --tokenizer-pre gpt-2 --outtype q8_0", 3e38, "would be inf")]
#[case("export --tokenizer-pre gpt-2 --outtype f16", 4e4, "does not fit f16")]
fn weights_that_are_not_finite_are_never_saved(#[case] words: &str, #[case] value: f32, #[case] what: &str) {
    let folder = Folder::new();
    let adapter = adapter_of(&folder, value);
    let before = names(&folder.path(""));
    let output = folder.arg("out");
    let files = ["--model", model_arg(), "--adapter", &adapter, "--output", &output];
    let outcome = collimate(&words.split_whitespace().chain(files).collect::<Vec<_>>());
    assert_eq!(outcome.code, 1, "{}", outcome.err);
    let tensor =
        if words.starts_with("merge") { "model.layers.1.self_attn.q_proj.weight" } else { "blk.1.attn_q.weight" };
    for part in ["error: ", &output, &format!("tensor \"{tensor}\": "), what, "never saved"] {
        assert!(outcome.err.contains(part), "{part:?} is not in {}", outcome.err);
    }
    assert_eq!(names(&folder.path("")), before, "nothing was written");
}

#[test]
fn a_base_that_overflows_its_new_type_is_never_saved() {
    let folder = Folder::new();
    let base = folder.arg("base");
    write_model_with(Path::new(&base), &json!({}));
    // 1.0 of the last norm becomes 100,000.
    let path = folder.path("base/model.safetensors");
    let weights = collimate_weights::WeightFiles::open(Path::new(&base)).expect("weights");
    let tensors: Vec<_> = weights
        .names()
        .map(|name| {
            let mut tensor = weights.read(name).expect("a tensor");
            if name == "model.norm.weight" {
                tensor.data[0] = 1e5;
            }
            (name.to_owned(), tensor)
        })
        .collect();
    collimate_weights::write_safetensors(&path, tensors, collimate_weights::StorageDtype::F32).expect("weights");
    let output = folder.arg("out");
    let merged =
        collimate(&["merge", "--model", &base, "--adapter", adapter_arg(), "--output", &output, "--dtype", "float16"]);
    assert_eq!(merged.code, 1, "{}", merged.err);
    assert!(merged.err.contains("\"model.norm.weight\": 100000 does not fit float16"), "{}", merged.err);
    assert!(!Path::new(&output).exists());
    // The end of a run keeps float32 then, and says so.
    let row = r#"{"prompt": "2 + 2 =", "responses": [{"content": " 4", "reward": 1}, {"content": " 5", "reward": 0}]}"#;
    let data = folder.write("rows.jsonl", format!("{row}\n"));
    let settings = ["max_steps=1", "learning_rate=1e-9", "torch_dtype=float16", "sample_prompts=0"];
    let trained = collimate(&train(&base, &data, &output, &settings));
    assert_eq!(trained.code, 0, "{}", trained.err);
    assert!(trained.err.contains("saved in float32: a weight is too large for float16"), "{}", trained.err);
    let saved = collimate_weights::WeightFiles::open(&folder.path("out")).expect("weights");
    assert!(saved.read("model.norm.weight").expect("finite weights").data[0] > 9e4);
}
