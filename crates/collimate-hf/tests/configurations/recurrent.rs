//! Qwen 3.5: recurrent layers, and experts beside them.

use std::path::Path;

use collimate_hf::{LinearAttention, ModelConfig};
use rstest::rstest;
use serde_json::{Value, json};

fn read(fields: Value) -> Result<ModelConfig, String> {
    let mut value = json!({ "model_type": "qwen3_5_text", "hidden_size": 64, "num_hidden_layers": 8 });
    fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
    ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
}

#[test]
fn a_silent_file_has_full_attention_in_every_fourth_layer_and_rotates_a_fourth_of_a_head() {
    let config = read(json!({})).unwrap();
    let linear = [true, true, true, false, true, true, true, false];
    assert_eq!((config.linear_layers, config.rotary_dim, config.head_dim), (linear.to_vec(), 64, 256));
    assert_eq!(
        config.linear_attention,
        Some(LinearAttention { key_heads: 16, value_heads: 32, key_dim: 128, value_dim: 128, taps: 4 })
    );
    let every_second = read(json!({ "full_attention_interval": 2 })).unwrap();
    assert_eq!(every_second.linear_layers, [true, false].repeat(4));
    let half = read(json!({ "rope_parameters": { "rope_type": "default", "partial_rotary_factor": 0.5 } })).unwrap();
    assert_eq!(half.rotary_dim, 128);
}

#[test]
fn a_linear_layer_has_tensors_of_its_own() {
    let config =
        read(json!({ "num_hidden_layers": 2, "layer_types": ["full_attention", "linear_attention"] })).unwrap();
    let shape = |name: &str| {
        let found = config.tensors().into_iter().find(|tensor| tensor.name == format!("model.layers.{name}"));
        found.map(|tensor| tensor.shape)
    };
    assert_eq!(shape("0.self_attn.q_proj.weight"), Some(vec![2 * 16 * 256, 64]), "queries and gates");
    assert_eq!(shape("0.self_attn.o_proj.weight"), Some(vec![64, 16 * 256]));
    assert_eq!(shape("1.self_attn.q_proj.weight"), None);
    assert_eq!(shape("1.linear_attn.in_proj_qkv.weight"), Some(vec![2 * 16 * 128 + 32 * 128, 64]));
    assert_eq!(shape("1.linear_attn.in_proj_a.weight"), Some(vec![32, 64]));
    assert_eq!(shape("1.linear_attn.conv1d.weight"), Some(vec![8192, 1, 4]));
    assert_eq!(shape("1.linear_attn.A_log"), Some(vec![32]));
    assert_eq!(shape("1.linear_attn.norm.weight"), Some(vec![128]));
}

#[rstest]
#[case(json!({ "linear_num_value_heads": 24 }), "linear_num_value_heads", "a multiple of linear_num_key_heads, 16")]
#[case(json!({ "layer_types": ["linear_attention"] }), "layer_types", "one for each of 8 layers")]
#[case(json!({ "layer_types": vec!["sliding_attention"; 8] }), "layer_types", "linear_attention, full_attention")]
#[case(json!({ "attn_output_gate": false }), "attn_output_gate", "always gated")]
#[case(json!({ "hidden_act": "gelu" }), "hidden_act", "only silu")]
#[case(json!({ "head_dim": 12 }), "partial_rotary_factor", "a share of the head, 12, that is an even number")]
#[case(json!({ "linear_conv_kernel_dim": 1 }), "linear_conv_kernel_dim", "at least 2")]
fn what_is_not_computed_is_refused(#[case] fields: Value, #[case] field: &str, #[case] says: &str) {
    let error = read(fields).unwrap_err();
    assert!(error.contains(&format!("\"{field}\"")) && error.contains(says), "{error}");
}

fn read_moe(fields: Value) -> Result<ModelConfig, String> {
    let mut value = json!({
        "model_type": "qwen3_5_moe_text", "hidden_size": 64, "num_hidden_layers": 4, "num_experts": 6,
        "num_experts_per_tok": 2,
    });
    fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
    ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
}

#[test]
fn experts_are_in_recurrent_layers_too() {
    let config = read_moe(json!({ "moe_intermediate_size": 40, "shared_expert_intermediate_size": 48 })).unwrap();
    let experts = config.experts.unwrap();
    assert!(experts.normalizes_weights && experts.shared.unwrap().is_gated);
    assert_eq!(config.linear_layers, [true, true, true, false]);
    let shape = |name: &str| {
        let found = config.tensors().into_iter().find(|tensor| tensor.name == format!("model.layers.{name}"));
        found.map(|tensor| tensor.shape)
    };
    assert_eq!(shape("0.linear_attn.in_proj_a.weight"), Some(vec![32, 64]));
    assert_eq!(shape("0.mlp.gate.weight"), Some(vec![6, 64]));
    assert_eq!(shape("3.mlp.experts.5.up_proj.weight"), Some(vec![40, 64]));
    assert_eq!(shape("3.mlp.shared_expert.down_proj.weight"), Some(vec![64, 48]));
    assert_eq!(shape("3.mlp.shared_expert_gate.weight"), Some(vec![1, 64]));
}

#[test]
fn a_silent_file_with_experts_has_the_defaults_of_transformers() {
    let value = json!({ "model_type": "qwen3_5_moe_text" });
    let config = ModelConfig::from_json(Path::new("config.json"), value).unwrap();
    let experts = config.experts.unwrap();
    assert_eq!((experts.count, experts.per_token, experts.intermediate_size), (256, 8, 512));
    assert_eq!((config.hidden_size, config.num_hidden_layers, config.num_key_value_heads), (2048, 40, 2));
}

#[rstest]
#[case(json!({ "num_experts_per_tok": 7 }), "num_experts_per_tok")]
#[case(json!({ "shared_expert_intermediate_size": 0 }), "shared_expert_intermediate_size")]
fn a_wrong_field_of_experts_is_named(#[case] fields: Value, #[case] field: &str) {
    let error = read_moe(fields).unwrap_err();
    assert!(error.contains(&format!("\"{field}\"")), "{error}");
}
