//! The tests' own model and adapter: a Llama with random weights and the quickstart's tokenizer.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use collimate_files::ShardSize;
use collimate_hf::{HostTensor, ModelConfig, linear_modules};
use collimate_peft::{Adapter, LoraConfig, LoraTargets};
use collimate_quickstart::tokenizer::write_tokenizer;
use collimate_weights::{StorageDtype, write_model};
use serde_json::{Value, json};

/// Rank of the adapter.
const RANK: usize = 8;
/// Standard deviation of the weights, large enough that different inputs give different outputs.
const DEVIATION: f32 = 0.25;

/// The model's folder.
pub(crate) fn model() -> &'static Path {
    &folders().0
}

/// The same as text, for arguments.
pub(crate) fn model_arg() -> &'static str {
    model().to_str().expect("text")
}

/// The folder of an adapter on all its linear layers, not an identity.
pub(crate) fn adapter() -> &'static Path {
    &folders().1
}

/// The same as text, for arguments.
pub(crate) fn adapter_arg() -> &'static str {
    adapter().to_str().expect("text")
}

/// Both folders, written once per process.
fn folders() -> &'static (PathBuf, PathBuf) {
    static FOLDERS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    FOLDERS.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("small-model");
        let (model, adapter) = (root.join("model"), root.join("adapter"));
        fs::create_dir_all(&model).expect("a folder");
        let config = write_small_model(&model);
        write_adapter(&adapter, &config);
        (model, adapter)
    })
}

fn write_small_model(dir: &Path) -> ModelConfig {
    write_model_with(dir, &json!({}))
}

/// Writes a small model with these fields of its configuration changed.
pub(crate) fn write_model_with(dir: &Path, fields: &Value) -> ModelConfig {
    fs::create_dir_all(dir).expect("a folder");
    write_tokenizer(dir, 0).expect("a tokenizer");
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 640,
        "hidden_size": 64,
        "intermediate_size": 112,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": false,
        "bos_token_id": null,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "dtype": "float32",
    });
    for (key, field) in fields.as_object().expect("fields") {
        config[key] = field.clone();
    }
    let config = ModelConfig::from_json(&dir.join("config.json"), config).expect("a configuration");
    let mut numbers = Numbers(1);
    let tensors: Vec<(String, HostTensor)> = config
        .tensors()
        .into_iter()
        .map(|spec| {
            let norm = spec.shape.len() == 1;
            let data = (0..spec.num_elements()).map(|_| if norm { 1.0 } else { DEVIATION * numbers.next() }).collect();
            (spec.name, HostTensor::new(spec.shape, data))
        })
        .collect();
    write_model(dir, &config, tensors, StorageDtype::F32, ShardSize::default()).expect("a model");
    config
}

fn write_adapter(dir: &Path, model: &ModelConfig) {
    let mut numbers = Numbers(2);
    let mut matrix = |rows: usize, columns: usize| {
        HostTensor::new([rows, columns], (0..rows * columns).map(|_| 0.05 * numbers.next()).collect())
    };
    let modules = linear_modules(model).into_iter().map(|linear| {
        let (a, b) = (matrix(RANK, linear.in_features), matrix(linear.out_features, RANK));
        (linear.module, (a, b))
    });
    let config = LoraConfig::new(RANK, 2.0 * RANK as f64, LoraTargets::AllLinear);
    Adapter::of_factors(config, modules).write(dir).expect("an adapter");
}

/// Uniform numbers of mean 0 and deviation 1, by SplitMix64 (Steele, Lea and Flood 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32;
        (unit - 0.5) * 12f32.sqrt()
    }
}
