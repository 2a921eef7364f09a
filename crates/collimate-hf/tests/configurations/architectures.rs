//! Fields that only some architectures have.

use collimate_hf::{Activation, Experts, RopeScaling, linear_modules};
use rstest::rstest;
use serde_json::{Value, json};

use super::{message, read, with};

#[rstest]
#[case("mixtral", [32_000, 4096, 14_336, 32, 32, 8, 128, 131_072], (1e-5, 1e6), (Some(1), vec![2]), false)]
#[case("gemma2", [256_000, 2304, 9216, 26, 8, 4, 256, 8192], (1e-6, 1e4), (Some(2), vec![1]), true)]
#[case("phi3", [32_064, 3072, 8192, 32, 32, 32, 96, 4096], (1e-5, 1e4), (Some(1), vec![32_000]), false)]
#[case("olmo2", [50_304, 4096, 11_008, 32, 32, 32, 128, 2048], (1e-5, 1e4), (None, vec![50_279]), false)]
#[case("smollm3", [128_256, 2048, 11_008, 36, 16, 4, 128, 32_768], (1e-6, 2e6), (Some(128_000), vec![128_001]), true)]
fn architectures_with_sizes_of_their_own(
    #[case] model_type: &str,
    #[case] sizes: [usize; 8],
    #[case] eps_and_theta: (f64, f64),
    #[case] bos_and_eos: (Option<u32>, Vec<u32>),
    #[case] tied: bool,
) {
    let config = read(json!({ "model_type": model_type })).unwrap();
    let found = [
        config.vocab_size,
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
        config.max_position_embeddings,
    ];
    assert_eq!(found, sizes);
    assert_eq!((config.rms_norm_eps, config.rope_theta), eps_and_theta);
    assert_eq!((config.bos_token_id, config.eos_token_ids), bos_and_eos);
    assert_eq!(config.tie_word_embeddings, tied);
}

#[test]
fn gemma2_squashes_and_scales() {
    let gemma2 = |fields: Value| {
        let mut value = with(json!({ "model_type": "gemma2" }));
        fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
        read(value).unwrap()
    };
    let silent = gemma2(json!({ "hidden_act": "silu" }));
    assert_eq!((silent.attention_softcap, silent.logit_softcap), (Some(50.0), Some(30.0)));
    assert_eq!((silent.attention_scale, silent.hidden_act), (1.0 / 16.0, Activation::GeluTanh));
    assert_eq!((silent.embedding_scale, silent.head_dim), (Some(4.0), 256));
    assert_eq!(silent.layer_windows, [Some(4096), None]);
    let caps = json!({ "attn_logit_softcapping": null, "final_logit_softcapping": 7, "query_pre_attn_scalar": 64 });
    let config = gemma2(caps);
    assert_eq!((config.attention_softcap, config.logit_softcap), (None, Some(7.0)));
    assert_eq!(config.attention_scale, 1.0 / 8.0);
    let norms = config.tensors().iter().filter(|spec| spec.name.contains("layernorm")).count();
    assert_eq!(norms, 2 * 4);
}

#[rstest]
#[case(json!({}), 16, RopeScaling::Default)]
#[case(json!({ "partial_rotary_factor": 0.75 }), 12, RopeScaling::Default)]
#[case(json!({ "rope_parameters": { "rope_type": "default", "partial_rotary_factor": 0.5 } }), 8, RopeScaling::Default)]
#[case(json!({ "partial_rotary_factor": 0.25, "rope_scaling": { "type": "longrope", "short_factor": [1, 2.5], "long_factor": [3, 4] } }), 4, RopeScaling::Long { short_factor: vec![1.0, 2.5], original_max_position_embeddings: 4096, attention_factor: 1.0 })]
#[case(json!({ "partial_rotary_factor": 0.25, "original_max_position_embeddings": 16, "rope_scaling": { "type": "su", "short_factor": [1, 2.5], "long_factor": [3, 4] } }), 4, RopeScaling::Long { short_factor: vec![1.0, 2.5], original_max_position_embeddings: 16, attention_factor: 1.5_f64.sqrt() })]
#[case(json!({ "partial_rotary_factor": 0.25, "rope_scaling": { "rope_type": "yarn", "short_factor": [1, 1], "long_factor": [1, 1], "attention_factor": 1.25 } }), 4, RopeScaling::Long { short_factor: vec![1.0, 1.0], original_max_position_embeddings: 4096, attention_factor: 1.25 })]
fn phi3_rotates_part_of_a_head_and_has_longrope(
    #[case] mut fields: Value,
    #[case] rotary_dim: usize,
    #[case] scaling: RopeScaling,
) {
    fields["model_type"] = json!("phi3");
    fields["head_dim"] = json!(16);
    let config = read(with(fields)).unwrap();
    assert_eq!((config.rotary_dim, config.rope_scaling), (rotary_dim, scaling));
}

#[test]
fn fused_projections_have_names_of_their_own() {
    let config = read(with(json!({ "model_type": "phi3" }))).unwrap();
    let linears = linear_modules(&config);
    let shapes: Vec<_> = linears[..4].iter().map(|l| (l.module.as_str(), l.in_features, l.out_features)).collect();
    let expected = [
        ("model.layers.0.self_attn.qkv_proj", 16, 16 + 2 * 8),
        ("model.layers.0.self_attn.o_proj", 16, 16),
        ("model.layers.0.mlp.gate_up_proj", 16, 2 * 24),
        ("model.layers.0.mlp.down_proj", 24, 16),
    ];
    assert_eq!(shapes, expected);
    let windowed = read(with(json!({ "model_type": "phi3", "sliding_window": 9 }))).unwrap();
    assert_eq!(windowed.layer_windows, [Some(9), Some(9)]);
}

#[test]
fn experts_and_their_names() {
    let fields = json!({ "model_type": "mixtral", "num_experts": 3, "router_aux_loss_coef": 0.02 });
    let config = read(with(fields)).unwrap();
    assert_eq!(config.experts, Some(Experts { balance_weight: 0.02, ..Experts::plain(3, 2, 24) }));
    let linears = linear_modules(&config);
    assert_eq!(linears.len(), 2 * (4 + 1 + 3 * 3));
    let shape = |i: usize| (linears[i].module.as_str(), linears[i].in_features, linears[i].out_features);
    assert_eq!(shape(4), ("model.layers.0.block_sparse_moe.gate", 16, 3));
    assert_eq!(shape(8), ("model.layers.0.block_sparse_moe.experts.1.w1", 16, 24));
    assert_eq!(shape(10), ("model.layers.0.block_sparse_moe.experts.1.w2", 24, 16));
    let asked = json!({ "model_type": "mixtral", "router_aux_loss_coef": 0.02, "output_router_logits": true });
    let asked = read(with(asked)).unwrap().experts.unwrap();
    assert_eq!((asked.count, asked.balance_weight, asked.balances_by_default), (8, 0.02, true));
}

#[rstest]
#[case(json!({}), [true, true, true, false])]
#[case(json!({ "no_rope_layer_interval": 2 }), [true, false, true, false])]
#[case(json!({ "no_rope_layer_interval": 2, "no_rope_layers": [0, 1, 1, 0, 0] }), [false, true, true, false])]
fn layers_of_smollm3_that_do_not_rotate(#[case] mut fields: Value, #[case] expected: [bool; 4]) {
    fields["model_type"] = json!("smollm3");
    fields["num_hidden_layers"] = json!(4);
    let config = read(with(fields.clone())).unwrap();
    assert_eq!(config.rotated_layers, expected);
    assert_eq!(config.layer_windows, [None; 4]);
    fields["sliding_window"] = json!(8);
    fields["use_sliding_window"] = json!(true);
    assert_eq!(read(with(fields)).unwrap().layer_windows, expected.map(|rotates| (!rotates).then_some(8)));
}

#[rstest]
#[case(json!({ "model_type": "gemma2", "sliding_window": null }), "field \"sliding_window\": expected a number of tokens, since every other layer has a window")]
#[case(json!({ "model_type": "gemma2", "use_bidirectional_attention": true }), "field \"use_bidirectional_attention\": true is not supported")]
#[case(json!({ "model_type": "gemma2", "final_logit_softcapping": 0 }), "field \"final_logit_softcapping\": expected a number from 0.001 to 1000000, found 0")]
#[case(json!({ "model_type": "gemma2", "attn_logit_softcapping": 1e-300 }), "field \"attn_logit_softcapping\": expected a number from 0.001 to 1000000, found 1e-300")]
#[case(json!({ "model_type": "gemma2", "query_pre_attn_scalar": -1 }), "field \"query_pre_attn_scalar\"")]
#[case(json!({ "model_type": "gemma2", "hidden_activation": "relu" }), "field \"hidden_activation\": \"relu\" is not supported")]
#[case(json!({ "model_type": "phi3", "partial_rotary_factor": 1.5 }), "field \"partial_rotary_factor\": expected a share of the head, 4, that is an even number, found 1.5")]
#[case(json!({ "model_type": "phi3", "partial_rotary_factor": 0.25 }), "field \"partial_rotary_factor\"")]
#[case(json!({ "model_type": "phi3", "rope_scaling": { "type": "linear", "factor": 2 } }), "field \"rope_scaling.type\": \"linear\" is not supported; supported by this architecture: default, longrope, su")]
#[case(json!({ "model_type": "phi3", "rope_scaling": { "type": "su", "long_factor": [1, 1] } }), "field \"rope_scaling.short_factor\": expected a list of numbers, found nothing")]
#[case(json!({ "model_type": "phi3", "rope_scaling": { "type": "su", "short_factor": [1, 1] } }), "field \"rope_scaling.long_factor\"")]
#[case(json!({ "model_type": "phi3", "rope_scaling": { "type": "su", "short_factor": [1], "long_factor": [1, 1] } }), "field \"rope_scaling.short_factor\": expected a list of 2 numbers from 0.001 to 1000000, found [1]")]
#[case(json!({ "model_type": "phi3", "original_max_position_embeddings": 1, "rope_scaling": { "type": "su", "short_factor": [1, 1], "long_factor": [1, 1] } }), "field \"original_max_position_embeddings\": expected at least 2, found 1")]
#[case(json!({ "model_type": "phi3", "layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8 }), "the same attention in every layer")]
#[case(json!({ "model_type": "smollm3", "no_rope_layers": [1] }), "field \"no_rope_layers\": expected a list of 0 and 1, one for each of 2 layers, found [1]")]
#[case(json!({ "model_type": "smollm3", "no_rope_layers": [1, 2] }), "field \"no_rope_layers\"")]
#[case(json!({ "model_type": "smollm3", "no_rope_layer_interval": 0 }), "field \"no_rope_layer_interval\"")]
#[case(json!({ "model_type": "smollm3", "sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"] }), "no sliding_attention where there is no sliding window")]
#[case(json!({ "model_type": "mixtral", "num_local_experts": 0 }), "field \"num_local_experts\"")]
#[case(json!({ "model_type": "mixtral", "num_local_experts": 50_001 }), "field \"num_local_experts\": expected at most 100000 in all layers together, found 50001")]
#[case(json!({ "model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 3 }), "field \"num_experts_per_tok\": expected at most num_local_experts, 2, found 3")]
#[case(json!({ "model_type": "mixtral", "router_aux_loss_coef": -1 }), "field \"router_aux_loss_coef\": expected a number of at least 0, found -1")]
fn what_these_cannot_be_is_refused_by_field(#[case] changes: Value, #[case] expected: &str) {
    let error = message(changes);
    assert!(error.starts_with("m/config.json: ") && error.contains(expected), "{error}");
}
