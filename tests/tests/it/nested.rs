//! Text models inside image-and-text folders: trained and scored, while everything beside them is kept as it is.

use std::collections::BTreeMap;

use collimate_oracle::tolerances::{MERGED, assert_relative};
use collimate_oracle::{StoredTensor, safetensors_file};
use collimate_weights::WeightFiles;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{Folder, collimate, succeed, train};
use crate::small_model::write_model_with;

const ROWS: &str = concat!(
    r#"{"prompt": "What is 2 + 2?", "responses": [{"content": "4", "reward": 1}, {"content": "five", "reward": 0}]}"#,
    "\n",
    r#"{"prompt": "And 3 + 3?", "responses": [{"content": "It is 6.", "reward": 1}, {"content": "7", "reward": 0}]}"#,
    "\n",
);

/// What stands before the names of the text model, the output layer and the tower in a file.
struct Names {
    text: &'static str,
    head: &'static str,
    tower: &'static str,
}

/// As most folders are published, and as transformers names its modules.
const PUBLISHED: Names = Names { text: "language_model.model", head: "language_model.lm_head", tower: "vision_tower" };
const MODULES: Names = Names { text: "model.language_model", head: "lm_head", tower: "model.vision_tower" };

/// Writes a plain model, and the same inside an image-and-text folder.
fn write_folders(folder: &Folder, names: &Names) {
    let fields = json!({"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": null});
    let config = write_model_with(&folder.path("plain"), &fields);
    folder.copy(&folder.path("plain"), "nested");
    let plain = WeightFiles::open(&folder.path("plain")).expect("weights");
    let text = config.tensors().into_iter().map(|spec| {
        let name = match spec.name.strip_prefix("model.") {
            Some(rest) => format!("{}.{rest}", names.text),
            None => spec.name.replace("lm_head", names.head),
        };
        let data = plain.read(&spec.name).expect("a tensor").data;
        let bytes = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        StoredTensor { name, dtype: "F32".to_owned(), shape: spec.shape, bytes }
    });
    let tower = ["patch_conv.weight", "ln_pre.weight"].map(|name| StoredTensor {
        name: format!("{}.{name}", names.tower),
        dtype: "BF16".to_owned(),
        shape: vec![4, 3, 2],
        bytes: (0..48_u8).map(|byte| byte.wrapping_mul(37)).collect(),
    });
    let all: Vec<StoredTensor> = text.chain(tower).collect();
    folder.write("nested/model.safetensors", safetensors_file(&all));
    let config = json!({
        "architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3", "text_config": config.raw,
        "vision_config": {"model_type": "pixtral", "hidden_size": 4}, "tie_word_embeddings": false, "dtype": "float32",
        "image_token_index": 9,
    });
    folder.write("nested/config.json", config.to_string());
    folder.write("nested/processor_config.json", r#"{"patch_size": 2}"#);
}

fn scores(folder: &Folder, data: &str, model: &[&str]) -> Vec<f64> {
    let output = folder.arg("scores.jsonl");
    succeed(&[&["score", "--data", data, "--output", &output, "--force", "--quiet"], model].concat());
    let rows = folder.rows("scores.jsonl");
    let responses = rows.iter().flat_map(|row| row["responses"].as_array().expect("responses"));
    responses.map(|response| response["logps"].as_f64().expect("a sum")).collect()
}

/// Type, shape and bytes of every tensor of a folder's files, by its name there.
fn stored(folder: &Folder, name: &str) -> BTreeMap<String, Value> {
    let mut tensors = BTreeMap::new();
    for entry in folder.path(name).read_dir().expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.extension().is_none_or(|ending| ending != "safetensors") {
            continue;
        }
        let bytes = std::fs::read(&entry).expect("a file");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
        for (name, info) in header.as_object().expect("an object").iter().filter(|(name, _)| *name != "__metadata__") {
            let offset = |i: usize| 8 + length + info["data_offsets"][i].as_u64().expect("an offset") as usize;
            let data = &bytes[offset(0)..offset(1)];
            tensors.insert(name.clone(), json!([info["dtype"], info["shape"], data]));
        }
    }
    tensors
}

/// Checks that a written model has the tensors of the nested one, the tower's as they were and the text model's changed.
fn check_kept(folder: &Folder, name: &str, names: &Names) {
    let (before, after) = (stored(folder, "nested"), stored(folder, name));
    assert!(before.keys().eq(after.keys()), "{:?}", after.keys());
    let is_tower = |name: &str| name.starts_with(names.tower);
    assert_eq!(before.keys().filter(|name| is_tower(name)).count(), 2);
    assert!(before.iter().filter(|(name, _)| is_tower(name)).all(|(name, tensor)| *tensor == after[name]));
    assert!(before.iter().any(|(name, tensor)| !is_tower(name) && *tensor != after[name]), "nothing was changed");
    let config =
        |name: &str| -> Value { serde_json::from_str(&folder.read(&format!("{name}/config.json"))).expect("JSON") };
    assert_eq!(config(name), config("nested"));
    assert_eq!(folder.read(&format!("{name}/processor_config.json")), folder.read("nested/processor_config.json"));
}

#[rstest]
#[case(&PUBLISHED, "5GB")]
#[case(&PUBLISHED, "60KB")]
#[case(&MODULES, "5GB")]
fn what_stands_beside_a_text_model_is_kept_byte_for_byte(#[case] names: &Names, #[case] shard: &str) {
    let folder = Folder::new();
    write_folders(&folder, names);
    let data = folder.write("rows.jsonl", ROWS);
    let (plain, nested, run) = (folder.arg("plain"), folder.arg("nested"), folder.arg("run"));
    assert_eq!(scores(&folder, &data, &["--model", &nested]), scores(&folder, &data, &["--model", &plain]));

    let settings = ["max_steps=2", "learning_rate=1e-2", "warmup_steps=0"];
    succeed(&train(&nested, &data, &run, &[&settings[..], &["use_peft=true", "lora_r=4"]].concat()));
    let adapter = stored(&folder, "run");
    assert!(adapter.keys().all(|name| name.starts_with("base_model.model.model.language_model.layers.")));
    let config: Value = serde_json::from_str(&folder.read("run/adapter_config.json")).expect("JSON");
    let pattern = r"model\.language_model\.(?:.*\.)?(?:down_proj|gate_proj|k_proj|o_proj|q_proj|up_proj|v_proj)";
    assert_eq!(config["target_modules"], pattern);

    let merged = folder.arg("merged");
    let merge = ["merge", "--model", &nested, "--adapter", &run, "--output", &merged, "--max-shard-size", shard];
    succeed(&merge);
    check_kept(&folder, "merged", names);
    let together = scores(&folder, &data, &["--model", &nested, "--adapter", &run]);
    for (found, expected) in scores(&folder, &data, &["--model", &merged]).into_iter().zip(together) {
        assert_relative(found, expected, MERGED, "the merged model");
    }

    let shards = format!("max_shard_size={shard}");
    succeed(&train(&nested, &data, &folder.arg("full"), &[&settings[..], &[&shards, "save_steps=1"]].concat()));
    check_kept(&folder, "full", names);
    assert_ne!(scores(&folder, &data, &["--model", &folder.arg("full")]), scores(&folder, &data, &["--model", &plain]));
}

#[test]
fn prompts_with_images_are_refused() {
    let folder = Folder::new();
    write_folders(&folder, &PUBLISHED);
    let row = json!({
        "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}],
        "responses": [{"content": "A cat.", "reward": 1}, {"content": "A dog.", "reward": 0}],
    });
    let data = folder.write("rows.jsonl", row.to_string() + "\n");
    let output = folder.arg("scores.jsonl");
    let outcome = collimate(&["score", "--model", &folder.arg("nested"), "--data", &data, "--output", &output]);
    assert_eq!(outcome.code, 2, "{}", outcome.err);
    assert!(
        outcome.err.contains("rows.jsonl:1") && outcome.err.contains("the model computes no images"),
        "{}",
        outcome.err
    );
}
