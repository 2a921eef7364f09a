//! gpt-oss: Llama with sinks, windows over every other layer, and experts with biases and a clamped gate.

use super::llama;
use crate::config::{
    AttentionBias, ClampedGate, Defaults, Family, GgufFamily, GgufRefusal, GgufValue, ModelConfig, Stacking,
    TensorNames,
};
use crate::error::HfError;
use crate::experts::{self, ExpertDefaults};
use crate::fields::Fields;
use crate::layers;
use crate::rope::RopeScaling;

/// The clamped gate of transformers' default, and llama.cpp's only one.
const GATE: ClampedGate = ClampedGate { alpha: 1.702, limit: 7.0 };

pub(super) const FAMILY: Family = Family {
    model_type: "gpt_oss",
    summary: "`llama` with sinks, windows over every other layer, and experts with biases and a clamped gate (gpt-oss)",
    gguf: Some(GgufFamily {
        architecture: "gpt-oss",
        attention_bias: AttentionBias::ALL,
        windows: true,
        rounds_ramp: true,
        feed_forward_norm: "post_attention_norm",
        keys,
        refusal,
        ..llama::PLAIN_GGUF
    }),
    defaults: Defaults {
        vocab_size: 201_088,
        hidden_size: 2880,
        intermediate_size: 2880,
        num_hidden_layers: 36,
        num_attention_heads: 64,
        num_key_value_heads: Some(8),
        head_dim: Some(64),
        max_position_embeddings: 131_072,
        rms_norm_eps: 1e-5,
        rope_theta: 150_000.0,
        sliding_window: Some(128),
        bos_token_id: None,
        eos_token_id: None,
        ..llama::DEFAULTS
    },
    has_mlp_bias: false,
    names: TensorNames { router: "mlp.router", stacking: Stacking::Interleaved, adapts_experts: false, ..llama::NAMES },
    windows,
    read,
    ..llama::FAMILY
};

/// Every other layer has a window, starting with the first.
fn windows(fields: Fields<'_>, default: Option<usize>, num_layers: usize) -> Result<Vec<Option<usize>>, HfError> {
    layers::by_layer(fields, layers::window(fields, default)?, num_layers, |layer| layer.is_multiple_of(2))
}

fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    config.attention_sinks = true;
    config.attention_bias =
        if fields.flag_or("attention_bias", true)? { AttentionBias::ALL } else { AttentionBias::NONE };
    config.clamped_gate = Some(ClampedGate {
        alpha: fields.factor("swiglu_alpha")?.unwrap_or(GATE.alpha),
        limit: fields.factor("swiglu_limit")?.unwrap_or(GATE.limit),
    });
    if ["rope_scaling", "rope_parameters"].iter().all(|key| fields.get(key).is_none()) {
        config.rope_scaling = RopeScaling::Yarn {
            factor: 32.0,
            original_max_position_embeddings: 4096,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: None,
            mscale: None,
            mscale_all_dim: None,
            truncate: false,
        };
    }
    let defaults = ExpertDefaults {
        count_key: fields.first_of(["num_local_experts", "num_experts"]),
        count: 128,
        per_token: 4,
        balance_weight: 0.001,
        intermediate_size: config.intermediate_size,
    };
    let mut experts = experts::read(fields, config.num_hidden_layers, defaults)?;
    experts.has_biases = true;
    config.experts = Some(experts);
    Ok(())
}

fn keys(config: &ModelConfig) -> Vec<(&'static str, GgufValue)> {
    vec![("expert_feed_forward_length", GgufValue::Count(config.intermediate_size))]
}

fn refusal(config: &ModelConfig) -> Option<GgufRefusal> {
    let refused = |field, instead| Some(GgufRefusal { field, instead });
    let alternates = |(layer, window): (usize, &Option<usize>)| window.is_some() == layer.is_multiple_of(2);
    match config.clamped_gate {
        Some(gate) if gate.alpha != GATE.alpha => refused("swiglu_alpha", "it is 1.702"),
        Some(gate) if gate.limit != GATE.limit => refused("swiglu_limit", "it is 7"),
        _ if config.tie_word_embeddings => refused("tie_word_embeddings", "the output layer is not the embedding"),
        _ if config.attention_bias != AttentionBias::ALL => refused("attention_bias", "every projection has one"),
        _ if !config.layer_windows.iter().enumerate().all(alternates) => {
            refused("layer_types", "every other layer has a window, the first one too")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn read(fields: Value) -> Result<ModelConfig, String> {
        let mut value = json!({
            "model_type": "gpt_oss", "hidden_size": 64, "intermediate_size": 48, "num_attention_heads": 4, "head_dim": 16,
            "num_key_value_heads": 2, "num_hidden_layers": 3, "num_local_experts": 5, "num_experts_per_tok": 2,
            "vocab_size": 90,
        });
        fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
        ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_silent_file_has_every_other_window_biases_and_yarn_without_truncation() {
        let config = read(json!({})).unwrap();
        assert_eq!(config.layer_windows, [Some(128), None, Some(128)]);
        assert_eq!((config.attention_bias, config.clamped_gate), (AttentionBias::ALL, Some(GATE)));
        assert!(config.attention_sinks && config.experts.unwrap().has_biases);
        assert!(matches!(config.rope_scaling, RopeScaling::Yarn { truncate: false, .. }));
        assert_eq!((config.rope_theta, refusal(&config)), (150_000.0, None));
    }

    /// The keys of the published files, and those of transformers 5.
    #[rstest]
    #[case("rope_scaling")]
    #[case("rope_parameters")]
    fn both_generations_of_rotary_fields_are_read(#[case] key: &str) {
        let scaling = json!({
            "beta_fast": 32.0, "beta_slow": 1.0, "factor": 16.0, "original_max_position_embeddings": 4096,
            "rope_type": "yarn", "truncate": false, "rope_theta": 1e5,
        });
        let config = read(json!({ key: scaling })).unwrap();
        assert!(matches!(config.rope_scaling, RopeScaling::Yarn { factor: 16.0, truncate: false, .. }));
        assert_eq!(config.rope_theta, 1e5);
    }

    #[test]
    fn experts_have_biases_and_no_names_in_peft() {
        let config = read(json!({ "swiglu_limit": 3, "attention_bias": false })).unwrap();
        let block = config.block(0);
        assert!(!config.family.adapts_experts());
        assert_eq!(block.linears().len(), 4 + 1 + 3 * 5);
        assert!(block.linears()[4..].iter().all(|linear| linear.bias));
        assert_eq!(block.sinks.unwrap().shape, [4]);
        assert_eq!(refusal(&config).unwrap().field, "swiglu_limit");
    }
}
