//! Reads configurations in the forms that old and new transformers write.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod architectures;
mod gemma3;
mod nearest;
mod published;
mod recurrent;
mod wrapped;

use std::fs;
use std::path::Path;

use collimate_hf::{
    Activation, AttentionBias, FAMILIES, HfError, ModelConfig, RopeScaling, TensorSpec, WRAPPERS, linear_modules,
};
use rstest::rstest;
use serde_json::{Value, json};

/// A small valid configuration, overridden by `changes`; null is kept as JSON null.
fn with(changes: Value) -> Value {
    let mut value = json!({
        "model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    });
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    value
}

fn read(value: Value) -> Result<ModelConfig, HfError> {
    ModelConfig::from_json(Path::new("m/config.json"), value)
}

fn message(changes: Value) -> String {
    read(with(changes)).unwrap_err().to_string()
}

#[rstest]
#[case("llama", 32_000, 11_008, [32, 4096 / 32], 2048, (vec![2], Some(1)))]
#[case("mistral", 32_000, 14_336, [8, 4096 / 32], 4096 * 32, (vec![2], Some(1)))]
#[case("qwen2", 151_936, 22_016, [32, 4096 / 32], 32_768, (vec![], None))]
#[case("qwen3", 151_936, 22_016, [32, 128], 32_768, (vec![], None))]
fn a_silent_file_means_the_defaults_of_transformers(
    #[case] model_type: &str,
    #[case] vocab_size: usize,
    #[case] intermediate_size: usize,
    #[case] heads: [usize; 2],
    #[case] max_positions: usize,
    #[case] eos_and_bos: (Vec<u32>, Option<u32>),
) {
    let config = read(json!({ "model_type": model_type })).unwrap();
    assert_eq!((config.vocab_size, config.hidden_size), (vocab_size, 4096));
    assert_eq!((config.intermediate_size, config.num_hidden_layers), (intermediate_size, 32));
    assert_eq!((config.num_attention_heads, config.max_position_embeddings), (32, max_positions));
    assert_eq!([config.num_key_value_heads, config.head_dim], heads);
    assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 10_000.0));
    assert_eq!((config.rope_scaling, config.hidden_act), (RopeScaling::Default, Activation::Silu));
    assert_eq!((config.eos_token_ids, config.bos_token_id), eos_and_bos);
    assert!(!config.tie_word_embeddings && !config.mlp_bias);
    assert_eq!(config.initializer_range, 0.02);
    let window = (model_type == "mistral").then_some(4096);
    assert_eq!(config.layer_windows, vec![window; 32]);
}

#[test]
fn key_value_heads_absent_or_null() {
    let mut silent = with(json!({}));
    silent.as_object_mut().unwrap().remove("num_key_value_heads");
    assert_eq!(read(silent).unwrap().num_key_value_heads, 4, "llama: as many as query heads");
    let null = with(json!({ "model_type": "mistral", "num_key_value_heads": null }));
    assert_eq!(read(null).unwrap().num_key_value_heads, 4);
}

#[rstest]
#[case("llama", false, [false; 4])]
#[case("llama", true, [true; 4])]
#[case("qwen3", true, [true; 4])]
#[case("qwen2", false, [true, true, true, false])]
#[case("mistral", true, [false; 4])]
#[case("olmo2", true, [true; 4])]
#[case("gemma2", true, [true; 4])]
#[case("smollm3", true, [true; 4])]
#[case("phi3", true, [false; 4])]
#[case("mixtral", true, [false; 4])]
fn biases_of_each_architecture(#[case] model_type: &str, #[case] flag: bool, #[case] expected: [bool; 4]) {
    let config = read(with(json!({ "model_type": model_type, "attention_bias": flag }))).unwrap();
    let AttentionBias { q, k, v, o } = config.attention_bias;
    assert_eq!([q, k, v, o], expected);
    let biases = config.tensors().iter().filter(|spec| spec.name.ends_with(".bias")).count();
    assert_eq!(biases, 2 * expected.iter().filter(|on| **on).count());
}

#[rstest]
#[case("llama", json!({ "sliding_window": 8 }), [None, None])]
#[case("mistral", json!({ "sliding_window": null }), [None, None])]
#[case("mistral", json!({ "sliding_window": 8 }), [Some(8), Some(8)])]
#[case("mistral", json!({ "sliding_window": 8, "layer_types": ["sliding_attention", "sliding_attention"] }), [Some(8), Some(8)])]
#[case("qwen2", json!({ "sliding_window": 8 }), [None, None])]
#[case("qwen2", json!({ "sliding_window": 8, "use_sliding_window": true }), [None, None])]
#[case("qwen2", json!({ "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 1 }), [None, Some(8)])]
#[case("qwen3", json!({ "use_sliding_window": true, "max_window_layers": 0 }), [Some(4096), Some(4096)])]
#[case("qwen3", json!({ "use_sliding_window": true, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] }), [Some(8), None])]
#[case("gemma2", json!({ "sliding_window": 8 }), [Some(8), None])]
#[case("gemma2", json!({ "sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"] }), [None, Some(8)])]
#[case("gemma2", json!({ "sliding_window": null, "layer_types": ["full_attention", "full_attention"] }), [None, None])]
#[case("mixtral", json!({}), [None, None])]
#[case("mixtral", json!({ "sliding_window": 8 }), [Some(8), Some(8)])]
#[case("olmo2", json!({ "sliding_window": 8 }), [None, None])]
#[case("smollm3", json!({ "sliding_window": 8, "use_sliding_window": true, "layer_types": ["sliding_attention", "full_attention"] }), [Some(8), None])]
fn windows_of_each_architecture(
    #[case] model_type: &str,
    #[case] mut fields: Value,
    #[case] expected: [Option<usize>; 2],
) {
    fields["model_type"] = json!(model_type);
    assert_eq!(read(with(fields)).unwrap().layer_windows, expected);
}

#[rstest]
#[case(json!({ "rope_theta": 5e5 }), 5e5, RopeScaling::Default)]
#[case(json!({ "rope_theta": 5e5, "rope_scaling": null }), 5e5, RopeScaling::Default)]
#[case(json!({ "rope_theta": 5e5, "rope_parameters": { "rope_theta": 7.0, "rope_type": "default" } }), 7.0, RopeScaling::Default)]
#[case(json!({ "rope_parameters": { "rope_theta": 1000 } }), 1e3, RopeScaling::Default)]
#[case(json!({ "rope_scaling": { "type": "linear", "factor": 2 } }), 1e4, RopeScaling::Linear { factor: 2.0 })]
#[case(json!({ "rope_scaling": { "rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 8 } }), 1e4, RopeScaling::Dynamic { factor: 2.0, original_max_position_embeddings: 64 })]
#[case(json!({ "rope_parameters": { "rope_theta": 5.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0 } }), 5.0, RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position_embeddings: 64 })]
#[case(json!({ "rope_scaling": { "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16 } }), 1e4, RopeScaling::Yarn { factor: 4.0, original_max_position_embeddings: 16, beta_fast: 32.0, beta_slow: 1.0, attention_factor: None, mscale: None, mscale_all_dim: None, truncate: true })]
#[case(json!({ "rope_scaling": { "type": "yarn", "factor": null, "original_max_position_embeddings": 16, "beta_fast": 16, "mscale": 0.7, "mscale_all_dim": 0, "attention_factor": 1.5, "truncate": false } }), 1e4, RopeScaling::Yarn { factor: 64.0 / 16.0, original_max_position_embeddings: 16, beta_fast: 16.0, beta_slow: 1.0, attention_factor: Some(1.5), mscale: Some(0.7), mscale_all_dim: None, truncate: false })]
fn rotary_settings_old_and_new(#[case] fields: Value, #[case] theta: f64, #[case] scaling: RopeScaling) {
    let config = read(with(fields)).unwrap();
    assert_eq!((config.rope_theta, config.rope_scaling), (theta, scaling));
}

#[rstest]
#[case(json!({ "hidden_act": "silu" }), Activation::Silu)]
#[case(json!({ "hidden_act": "swish" }), Activation::Silu)]
#[case(json!({ "hidden_act": "gelu" }), Activation::Gelu)]
#[case(json!({ "hidden_act": "gelu_pytorch_tanh" }), Activation::GeluTanh)]
fn activations(#[case] fields: Value, #[case] expected: Activation) {
    assert_eq!(read(with(fields)).unwrap().hidden_act, expected);
}

#[rstest]
#[case(json!({ "dtype": "bfloat16", "torch_dtype": "float16" }), Some("bfloat16"))]
#[case(json!({ "torch_dtype": "torch.float16" }), Some("float16"))]
#[case(json!({ "torch_dtype": null }), None)]
fn dtype_old_and_new(#[case] fields: Value, #[case] expected: Option<&str>) {
    assert_eq!(read(with(fields)).unwrap().dtype.as_deref(), expected);
}

#[rstest]
#[case(json!({ "vocab_size": 0 }), "field \"vocab_size\": expected a whole number from 1 to 2147483647, found 0")]
#[case(json!({ "hidden_size": -16 }), "field \"hidden_size\": expected a whole number from 1 to 2147483647, found -16")]
#[case(json!({ "hidden_size": 16.5 }), "field \"hidden_size\"")]
#[case(json!({ "hidden_size": "16" }), "found \"16\"")]
#[case(json!({ "hidden_size": null }), "field \"hidden_size\": expected a whole number, found null")]
#[case(json!({ "hidden_size": 18 }), "field \"hidden_size\": expected a multiple of num_attention_heads, 4, found 18")]
#[case(json!({ "hidden_size": 12 }), "field \"head_dim\": expected an even number")]
#[case(json!({ "head_dim": 5 }), "found 5")]
#[case(json!({ "num_key_value_heads": 3 }), "field \"num_key_value_heads\": expected a divisor of num_attention_heads, 4")]
#[case(json!({ "num_key_value_heads": 8 }), "field \"num_key_value_heads\"")]
#[case(json!({ "num_hidden_layers": 1_000_000 }), "field \"num_hidden_layers\": expected at most 10000, found 1000000")]
#[case(json!({ "vocab_size": 2_147_483_647, "head_dim": 2, "hidden_size": 2_147_483_647 }), "more parameters than can be addressed")]
#[case(json!({ "rms_norm_eps": 0 }), "field \"rms_norm_eps\": expected a number greater than 0, found 0")]
#[case(json!({ "tie_word_embeddings": "yes" }), "field \"tie_word_embeddings\": expected true or false, found \"yes\"")]
#[case(json!({ "hidden_act": "relu" }), "field \"hidden_act\": \"relu\" is not supported; supported: silu")]
#[case(json!({ "architectures": ["LlamaForSequenceClassification"] }), "only language models are")]
#[case(json!({ "quantization_config": { "bits": 4 } }), "field \"quantization_config\": {\"bits\":4} is not supported")]
#[case(json!({ "quantization_config": { "quant_method": "mxfp4" } }), "is not supported; MXFP4 is read in files of gpt_oss, whose experts it packs")]
#[case(json!({ "partial_rotary_factor": 0.5 }), "field \"partial_rotary_factor\": 0.5 is not supported")]
#[case(json!({ "rope_parameters": { "partial_rotary_factor": 0.5 } }), "field \"rope_parameters.partial_rotary_factor\"")]
#[case(json!({ "rope_scaling": { "type": "longrope" } }), "field \"rope_scaling.type\": \"longrope\" is not supported; supported: default, linear")]
#[case(json!({ "rope_scaling": { "factor": 2.0 } }), "field \"rope_scaling.rope_type\"")]
#[case(json!({ "rope_scaling": { "type": "linear" } }), "field \"rope_scaling.factor\": expected a number, found nothing")]
#[case(json!({ "rope_scaling": { "type": "linear", "factor": 0.5 } }), "field \"rope_scaling.factor\": expected a number of at least 1, found 0.5")]
#[case(json!({ "rope_scaling": { "type": "llama3", "factor": 2, "low_freq_factor": 4, "high_freq_factor": 4 } }), "field \"rope_scaling.high_freq_factor\": expected more than low_freq_factor, 4, found 4")]
#[case(json!({ "rope_scaling": 2 }), "field \"rope_scaling\": expected an object or null, found 2")]
#[case(json!({ "rope_theta": -1 }), "field \"rope_theta\"")]
#[case(json!({ "eos_token_id": -1 }), "field \"eos_token_id\": expected a token id or a list of token ids, found -1")]
#[case(json!({ "eos_token_id": [2, "x"] }), "field \"eos_token_id\"")]
#[case(json!({ "layer_types": ["full_attention"] }), "field \"layer_types\": expected one for each of 2 layers")]
#[case(json!({ "layer_types": ["full_attention", "linear_attention"] }), "field \"layer_types\"")]
#[case(json!({ "layer_types": ["full_attention", "sliding_attention"] }), "no sliding_attention where there is no sliding window")]
#[case(json!({ "model_type": "mistral", "layer_types": ["full_attention", "sliding_attention"] }), "the same attention in every layer")]
#[case(json!({ "model_type": "mistral", "sliding_window": 0 }), "field \"sliding_window\"")]
#[case(json!({ "model_type": "qwen2", "max_window_layers": -1 }), "field \"max_window_layers\": expected a whole number")]
fn what_cannot_be_is_refused_by_field(#[case] changes: Value, #[case] expected: &str) {
    let error = message(changes);
    assert!(error.starts_with("m/config.json: "), "{error}");
    assert!(error.contains(expected), "{error}");
}

#[test]
fn an_unknown_model_type_is_answered_with_those_that_are_known() {
    let families = FAMILIES.iter().map(|family| family.model_type);
    let known: Vec<_> = families.chain(WRAPPERS.iter().map(|wrapper| wrapper.model_type)).collect();
    let known = known.join(", ");
    let ends = [
        "llama, mistral, mixtral, ",
        "qwen2_vl_text, qwen2_5_vl_text, gemma3, mistral3, qwen3_5, qwen3_5_moe, qwen2_vl, qwen2_5_vl",
    ];
    assert!(known.starts_with(ends[0]) && known.ends_with(ends[1]), "{known}");
    let unknown = read(json!({ "model_type": "gpt2", "n_embd": 768, "n_head": 12 })).unwrap_err().to_string();
    assert_eq!(unknown, format!("m/config.json: architecture \"gpt2\" is not supported; supported: {known}"));
    let missing = message(json!({ "model_type": null }));
    assert_eq!(missing, format!("m/config.json: field \"model_type\": expected one of {known}, found null"));
}

#[test]
fn a_file_that_is_not_an_object_or_not_json_or_not_there() {
    assert!(read(json!([1])).unwrap_err().to_string().contains("expected an object, found [1]"));
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(ModelConfig::as_stated(dir.path()), Err(HfError::MissingFile { .. })));
    fs::write(dir.path().join("config.json"), "{\"model_type\": ").unwrap();
    let error = ModelConfig::as_stated(dir.path()).unwrap_err();
    assert!(matches!(&error, HfError::Json { message, .. } if message.contains("line 1 column")), "{error}");
}

#[test]
fn eos_tokens_of_both_files_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), with(json!({ "eos_token_id": [5, 6] })).to_string()).unwrap();
    fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [6, 9]}"#).unwrap();
    assert_eq!(ModelConfig::as_stated(dir.path()).unwrap().eos_token_ids, [5, 6, 9]);
}

#[test]
fn tensors_and_parameters_of_a_small_model() {
    let config = read(with(json!({ "tie_word_embeddings": true }))).unwrap();
    let attention = 2 * 16 * 16 + 2 * 8 * 16;
    let layer = attention + 3 * 16 * 24 + 2 * 16;
    assert_eq!(config.num_parameters(), 32 * 16 + 2 * layer + 16);
    assert_eq!(config.tensors().len(), 1 + 2 * 9 + 1);
    let untied = read(with(json!({}))).unwrap();
    assert_eq!(untied.num_parameters(), config.num_parameters() + 32 * 16);
    assert_eq!(untied.tensors().last().unwrap(), &TensorSpec::new("lm_head.weight", &[32, 16]));
    let linears = linear_modules(&untied);
    assert_eq!(linears.len(), 2 * 7);
    assert_eq!(linears[8].module, "model.layers.1.self_attn.k_proj");
    assert_eq!((linears[8].in_features, linears[8].out_features), (16, 2 * 4));
}
