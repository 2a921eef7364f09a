//! Configurations as people find them on the hub, of older and newer versions of transformers.

use std::path::Path;

use collimate_hf::{ModelConfig, QueryGrowth, RopeScaling, WindowRope};
use serde_json::{Value, json};

fn read(value: Value) -> ModelConfig {
    ModelConfig::from_json(Path::new("config.json"), value).unwrap()
}

/// Qwen3-30B-A3B.
#[test]
fn qwen3_moe() {
    let old = json!({
        "architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643,
        "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48,
        "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 768, "norm_topk_prob": true,
        "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
        "num_key_value_heads": 4, "output_router_logits": false, "rms_norm_eps": 1e-6, "rope_scaling": null,
        "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "sliding_window": null, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false,
        "vocab_size": 151936,
    });
    let mut new = old.clone();
    for key in ["num_experts", "rope_scaling", "rope_theta", "torch_dtype"] {
        new.as_object_mut().unwrap().remove(key);
    }
    new["num_local_experts"] = json!(128);
    new["rope_parameters"] = json!({"rope_theta": 1000000.0, "rope_type": "default"});
    new["dtype"] = json!("bfloat16");
    for value in [old, new] {
        let config = read(value);
        // 30.5 B, of which 8 of 128 experts work on a token.
        assert_eq!(config.num_parameters(), 30_532_122_624);
        let of_layer = 2 * 2048 * 4096 + 2 * 2048 * 512 + 8 * 3 * 2048 * 768 + 2048 * 128;
        assert_eq!(config.operations_per_token() / 2, 48 * of_layer + 151_936 * 2048);
        let experts = config.experts.unwrap();
        assert_eq!((experts.count, experts.per_token, experts.normalizes_weights), (128, 8, true));
        assert!(config.expert_layers.iter().all(|has_experts| *has_experts) && config.rope_theta == 1e6);
        assert_eq!(config.dtype.as_deref(), Some("bfloat16"));
    }
}

/// gemma-3-1b-it, and the text model of gemma-3-4b-it.
#[test]
fn gemma3() {
    let config = read(json!({
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": null, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
        "final_logit_softcapping": null, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152,
        "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 32768, "model_type": "gemma3_text",
        "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1, "pad_token_id": 0,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_local_base_freq": 10000, "rope_scaling": null,
        "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6, "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0", "use_cache": true, "vocab_size": 262144,
    }));
    assert_eq!(config.num_parameters(), 999_885_952);
    let local = Some(WindowRope { theta: 1e4, scaling: RopeScaling::Default });
    assert_eq!((config.rope_theta, &config.window_rope), (1e6, &local));
    assert_eq!(config.layer_windows.iter().flatten().count(), 22);

    let config = read(json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "eoi_token_index": 256000,
        "eos_token_id": [1, 106], "image_token_index": 262144, "initializer_range": 0.02, "mm_tokens_per_image": 256,
        "model_type": "gemma3",
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
        },
        "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0",
        "vision_config": {
            "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "model_type": "siglip_vision_model",
            "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": false,
        },
    }));
    assert_eq!(config.num_parameters(), 3_880_263_168);
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (8, 4, 256));
    assert_eq!((config.rope_scaling, config.window_rope), (RopeScaling::Linear { factor: 8.0 }, local));
    assert_eq!((config.eos_token_ids, config.tie_word_embeddings), (vec![1, 106], true));
    assert_eq!(config.dtype.as_deref(), Some("bfloat16"));
}

/// Olmo-3-7B.
#[test]
fn olmo3() {
    let kinds: Vec<&str> =
        (1..=32).map(|layer| if layer % 4 == 0 { "full_attention" } else { "sliding_attention" }).collect();
    let config = read(json!({
        "architectures": ["Olmo3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "dtype": "bfloat16",
        "eos_token_id": 100257, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 11008, "layer_types": kinds, "max_position_embeddings": 65536, "model_type": "olmo3",
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "pad_token_id": 100277,
        "rms_norm_eps": 1e-6,
        "rope_scaling": {
            "attention_factor": 1.2079441541679836, "beta_fast": 32, "beta_slow": 1, "factor": 8.0,
            "original_max_position_embeddings": 8192, "rope_type": "yarn",
        },
        "rope_theta": 500000, "sliding_window": 4096, "tie_word_embeddings": false, "transformers_version": "4.57.1",
        "use_cache": false, "vocab_size": 100278,
    }));
    assert_eq!(config.num_parameters(), 7_298_011_136);
    assert!(matches!(
        config.rope_scaling,
        RopeScaling::Yarn { factor: 8.0, original_max_position_embeddings: 8192, .. }
    ));
    assert_eq!(config.window_rope, Some(WindowRope { theta: 5e5, scaling: RopeScaling::Default }));
    assert_eq!(config.layer_windows[..5], [Some(4096), Some(4096), Some(4096), None, Some(4096)]);
}

/// Ministral-3-8B, and Mistral-Small-3.1-24B, whose text model is the older Mistral.
#[test]
fn mistral3() {
    let config = read(json!({
        "architectures": ["Mistral3ForConditionalGeneration"], "dtype": "bfloat16", "image_token_index": 10,
        "model_type": "mistral3", "multimodal_projector_bias": false, "projector_hidden_act": "gelu",
        "spatial_merge_size": 2,
        "text_config": {
            "attention_dropout": 0.0, "head_dim": 128, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
            "intermediate_size": 14336, "max_position_embeddings": 262144, "model_type": "ministral3",
            "num_attention_heads": 32, "num_hidden_layers": 34, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
            "rope_parameters": {
                "beta_fast": 32.0, "beta_slow": 1.0, "factor": 16.0, "llama_4_scaling_beta": 0.1, "mscale": 1.0,
                "mscale_all_dim": 1.0, "original_max_position_embeddings": 16384, "rope_theta": 1000000.0,
                "rope_type": "yarn", "type": "yarn",
            },
            "sliding_window": null, "tie_word_embeddings": false, "use_cache": true, "vocab_size": 131072,
        },
        "tie_word_embeddings": false, "transformers_version": "5.0.0.dev0",
        "vision_config": {"model_type": "pixtral", "hidden_size": 1024, "image_size": 1540, "patch_size": 14},
        "vision_feature_layer": -1,
    }));
    assert_eq!((config.model_type(), config.family.model_type), ("mistral3", "ministral3"));
    let of_layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096;
    assert_eq!(config.num_parameters(), 34 * of_layer + 2 * 131_072 * 4096 + 4096);
    assert_eq!(config.query_growth, Some(QueryGrowth { beta: 0.1, length: 16_384 }));

    let config = read(json!({
        "architectures": ["Mistral3ForConditionalGeneration"], "image_token_index": 10, "model_type": "mistral3",
        "multimodal_projector_bias": false, "projector_hidden_act": "gelu", "spatial_merge_size": 2,
        "text_config": {
            "attention_dropout": 0.0, "head_dim": 128, "hidden_act": "silu", "hidden_size": 5120, "initializer_range": 0.02,
            "intermediate_size": 32768, "max_position_embeddings": 131072, "model_type": "mistral", "num_attention_heads": 32,
            "num_hidden_layers": 40, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1000000000.0,
            "sliding_window": null, "use_cache": true, "vocab_size": 131072,
        },
        "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0",
        "vision_config": {"model_type": "pixtral", "head_dim": 64, "hidden_size": 1024},
        "vision_feature_layer": -1,
    }));
    assert_eq!((config.family.model_type, config.rope_theta, config.query_growth), ("mistral", 1e9, None));
    // The file is silent, and transformers ties; the weights have an output layer of their own, which is then used.
    let of_layer = 2 * 5120 * 4096 + 2 * 5120 * 1024 + 3 * 5120 * 32_768 + 2 * 5120;
    assert_eq!(config.num_parameters(), 40 * of_layer + 131_072 * 5120 + 5120);
    assert_eq!(config.embedding().name, "model.language_model.embed_tokens.weight");
}

/// GLM-4.5-Air.
#[test]
fn glm4_moe() {
    let old = json!({
        "architectures": ["Glm4MoeForCausalLM"], "attention_bias": true, "attention_dropout": 0.0,
        "eos_token_id": [151329, 151336, 151338], "first_k_dense_replace": 1, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 10944, "max_position_embeddings": 131072,
        "model_type": "glm4_moe", "moe_intermediate_size": 1408, "n_group": 1, "n_routed_experts": 128, "n_shared_experts": 1,
        "norm_topk_prob": true, "num_attention_heads": 96, "num_experts_per_tok": 8, "num_hidden_layers": 46,
        "num_key_value_heads": 8, "num_nextn_predict_layers": 1, "pad_token_id": 151329, "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-5, "rope_scaling": null, "rope_theta": 1000000, "routed_scaling_factor": 1.0,
        "tie_word_embeddings": false, "topk_group": 1, "torch_dtype": "bfloat16", "transformers_version": "4.54.0",
        "use_cache": true, "use_qk_norm": false, "vocab_size": 151552,
    });
    let mut new = old.clone();
    for key in ["rope_scaling", "rope_theta", "partial_rotary_factor", "torch_dtype"] {
        new.as_object_mut().unwrap().remove(key);
    }
    new["rope_parameters"] = json!({"partial_rotary_factor": 0.5, "rope_theta": 1000000.0, "rope_type": "default"});
    new["dtype"] = json!("bfloat16");
    for value in [old, new] {
        let config = read(value);
        let attention = 2 * 4096 * 12_288 + 12_288 + 2 * (4096 * 1024 + 1024);
        let expert = 3 * 4096 * 1408;
        let (dense, sparse) = (3 * 4096 * 10_944, 129 * expert + 128 * 4096 + 128);
        let whole = 46 * (attention + 2 * 4096) + dense + 45 * sparse + 2 * 151_552 * 4096 + 4096;
        assert_eq!(config.num_parameters(), whole);
        let active = 46 * (2 * 4096 * 12_288 + 2 * 4096 * 1024) + dense + 45 * (9 * expert + 128 * 4096);
        assert_eq!(config.operations_per_token() / 2, (active + 151_552 * 4096) as u64);
        assert_eq!((config.rotary_dim, config.rope_theta, config.expert_layers[0]), (64, 1e6, false));
        assert_eq!(config.eos_token_ids, [151_329, 151_336, 151_338]);
    }
}

/// gpt-oss-20b.
#[test]
fn gpt_oss() {
    let kinds = ["sliding_attention", "full_attention"].repeat(12);
    let scaling = json!({
        "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096, "rope_type": "yarn",
        "truncate": false,
    });
    let old = json!({
        "architectures": ["GptOssForCausalLM"], "attention_bias": true, "attention_dropout": 0.0, "eos_token_id": 200002,
        "experts_per_token": 4, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2880, "initial_context_length": 4096,
        "initializer_range": 0.02, "intermediate_size": 2880, "layer_types": kinds, "max_position_embeddings": 131072,
        "model_type": "gpt_oss", "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24,
        "num_key_value_heads": 8, "num_local_experts": 32, "output_router_logits": false, "pad_token_id": 199999,
        "quantization_config": {
            "modules_to_not_convert": [
                "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head",
            ],
            "quant_method": "mxfp4",
        },
        "rms_norm_eps": 1e-5, "rope_scaling": scaling, "rope_theta": 150000, "router_aux_loss_coef": 0.9,
        "sliding_window": 128, "swiglu_limit": 7.0, "tie_word_embeddings": false, "transformers_version": "4.55.0.dev0",
        "use_cache": true, "vocab_size": 201088,
    });
    let mut new = old.clone();
    for key in ["rope_scaling", "rope_theta", "layer_types", "quantization_config"] {
        new.as_object_mut().unwrap().remove(key);
    }
    new["rope_parameters"] = scaling;
    new["rope_parameters"]["rope_theta"] = json!(150_000.0);
    for (value, packed) in [(old, true), (new, false)] {
        let config = read(value);
        let attention = 2 * 2880 * 4096 + 2 * 2880 * 512 + 4096 + 2 * 512 + 2880 + 64;
        let experts = 32 * (3 * 2880 * 2880 + 3 * 2880) + 32 * 2880 + 32;
        let whole = 24 * (attention + experts + 2 * 2880) + 2 * 201_088 * 2880 + 2880;
        assert_eq!(config.num_parameters(), whole);
        assert_eq!(config.layer_windows[..3], [Some(128), None, Some(128)]);
        assert!(matches!(config.rope_scaling, RopeScaling::Yarn { factor: 32.0, truncate: false, .. }));
        assert_eq!((config.rope_theta, config.packing().is_some()), (150_000.0, packed));
    }
}

/// Qwen3.5-0.8B: ends and type are in the inner object only.
#[test]
fn qwen3_5() {
    let layer_types = ["linear_attention", "linear_attention", "linear_attention", "full_attention"].repeat(6);
    let config = read(json!({
        "architectures": ["Qwen3_5ForConditionalGeneration"], "image_token_id": 248056, "model_type": "qwen3_5",
        "text_config": {
            "attention_bias": false, "attention_dropout": 0.0, "attn_output_gate": true, "dtype": "bfloat16",
            "eos_token_id": 248044, "full_attention_interval": 4, "head_dim": 256, "hidden_act": "silu", "hidden_size": 1024,
            "initializer_range": 0.02, "intermediate_size": 3584, "layer_types": layer_types, "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 16,
            "linear_value_head_dim": 128, "mamba_ssm_dtype": "float32", "max_position_embeddings": 262144,
            "mlp_only_layers": [], "model_type": "qwen3_5_text", "mtp_num_hidden_layers": 1,
            "mtp_use_dedicated_embeddings": false, "num_attention_heads": 8, "num_hidden_layers": 24,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "use_cache": true,
            "vocab_size": 248320,
            "rope_parameters": {
                "mrope_interleaved": true, "mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25,
                "rope_theta": 10000000, "rope_type": "default",
            },
        },
        "tie_word_embeddings": true, "transformers_version": "4.57.0.dev0", "video_token_id": 248057,
        "vision_config": {"depth": 12, "hidden_size": 768, "model_type": "qwen3_5"},
        "vision_end_token_id": 248054, "vision_start_token_id": 248053,
    }));
    assert_eq!((config.dtype.as_deref(), config.eos_token_ids.as_slice()), (Some("bfloat16"), &[248_044][..]));
    assert_eq!((config.rotary_dim, config.rope_theta, config.tie_word_embeddings), (64, 1e7, true));
    assert_eq!(config.linear_layers.iter().filter(|is_linear| **is_linear).count(), 18);
    assert_eq!(config.num_parameters(), 752_393_024);
}
