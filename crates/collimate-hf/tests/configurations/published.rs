//! Configurations as people find them on the hub (`tests/published`), of older and newer versions of transformers.

use std::path::{Path, PathBuf};

use collimate_hf::{ModelConfig, QueryGrowth, RopeScaling, WindowRope};
use collimate_quantized::Format;
use serde_json::{Value, json};

fn read(value: Value) -> ModelConfig {
    ModelConfig::from_json(Path::new("config.json"), value).unwrap()
}

/// A published configuration, and what transformers 5.23 makes of it.
fn both(name: &str) -> [ModelConfig; 2] {
    ["", ".v5"].map(|version| published(&format!("{name}{version}")))
}

fn published(name: &str) -> ModelConfig {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/published");
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    read(serde_json::from_str(&text).unwrap())
}

#[test]
fn qwen3_moe() {
    for config in both("qwen3-30b-a3b") {
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

#[test]
fn gemma3() {
    let local = Some(WindowRope { theta: 1e4, scaling: RopeScaling::Default });
    for config in both("gemma-3-1b-it") {
        assert_eq!(config.num_parameters(), 999_885_952);
        assert_eq!((config.rope_theta, &config.window_rope), (1e6, &local));
        assert_eq!(config.layer_windows.iter().flatten().count(), 22);
    }
    for config in both("gemma-3-4b-it") {
        assert_eq!(config.num_parameters(), 3_880_263_168);
        assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (8, 4, 256));
        assert_eq!((&config.rope_scaling, &config.window_rope), (&RopeScaling::Linear { factor: 8.0 }, &local));
        assert_eq!((config.eos_token_ids, config.tie_word_embeddings), (vec![1, 106], true));
        assert_eq!(config.dtype.as_deref(), Some("bfloat16"));
    }
}

#[test]
fn olmo3() {
    for config in both("olmo-3-7b") {
        assert_eq!(config.num_parameters(), 7_298_011_136);
        assert!(matches!(
            config.rope_scaling,
            RopeScaling::Yarn { factor: 8.0, original_max_position_embeddings: 8192, .. }
        ));
        assert_eq!(config.window_rope, Some(WindowRope { theta: 5e5, scaling: RopeScaling::Default }));
        assert_eq!(config.layer_windows[..5], [Some(4096), Some(4096), Some(4096), None, Some(4096)]);
    }
}

/// Ministral-3-8B, in FP8 with one scale a weight, and Mistral-Small-3.1-24B, whose text model is the older Mistral.
#[test]
fn mistral3() {
    let config = published("ministral-3-8b");
    assert_eq!((config.model_type(), config.family.model_type), ("mistral3", "ministral3"));
    let of_layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096;
    assert_eq!(config.num_parameters(), 34 * of_layer + 2 * 131_072 * 4096 + 4096);
    assert_eq!(config.query_growth, Some(QueryGrowth { beta: 0.1, length: 16_384 }));
    assert_eq!(config.packing(), Some(Format::Fp8 { block: None }));

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

/// Granite-3.1-8B.
#[test]
fn granite() {
    for config in both("granite-3.1-8b-instruct") {
        assert_eq!(config.num_parameters(), 8_170_848_256);
        assert_eq!((config.attention_scale, config.embedding_scale), (0.007_812_5, Some(12.0)));
        assert_eq!((config.residual_scale, config.logit_scale), (Some(0.22), Some(1.0 / 16.0)));
        assert_eq!((config.rope_theta, config.tie_word_embeddings), (1e7, true));
    }
}

#[test]
fn glm4_moe() {
    for config in both("glm-4.5-air") {
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

#[test]
fn gpt_oss() {
    for config in both("gpt-oss-20b") {
        let attention = 2 * 2880 * 4096 + 2 * 2880 * 512 + 4096 + 2 * 512 + 2880 + 64;
        let experts = 32 * (3 * 2880 * 2880 + 3 * 2880) + 32 * 2880 + 32;
        let whole = 24 * (attention + experts + 2 * 2880) + 2 * 201_088 * 2880 + 2880;
        assert_eq!(config.num_parameters(), whole);
        assert_eq!(config.layer_windows[..3], [Some(128), None, Some(128)]);
        assert!(matches!(config.rope_scaling, RopeScaling::Yarn { factor: 32.0, truncate: false, .. }));
        assert_eq!((config.rope_theta, config.packing()), (150_000.0, Some(Format::Mxfp4)));
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

/// Qwen3.5-27B and Qwen3.5-35B-A3B, whose parameters transformers counts likewise.
#[test]
fn qwen3_5_of_other_sizes() {
    for config in both("qwen3.5-27b") {
        assert_eq!((config.num_parameters(), config.rotary_dim), (26_895_998_464, 64));
        assert_eq!(config.linear_layers.iter().filter(|is_linear| **is_linear).count(), 48);
    }
    for config in both("qwen3.5-35b-a3b") {
        assert_eq!(config.num_parameters(), 34_660_610_688);
        let experts = config.experts.unwrap();
        assert_eq!((experts.count, experts.per_token, experts.shared.unwrap().intermediate_size), (256, 8, 512));
    }
}
