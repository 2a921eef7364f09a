//! GLM-4.5: Llama with experts that a router picks by sigmoids and a bias, a layer beside them, and half of each head rotated.

use super::llama;
use crate::config::{
    AttentionBias, Defaults, ExpertGroups, Family, GgufFamily, GgufValue, ModelConfig, QkNorm, RouterScores,
    SharedExpert,
};
use crate::error::HfError;
use crate::experts::{self, ExpertDefaults};
use crate::fields::Fields;

/// The number of experts.
const COUNT: &str = "n_routed_experts";
/// llama.cpp's number for sigmoids.
const SIGMOIDS: usize = 2;

pub(super) const FAMILY: Family = Family {
    model_type: "glm4_moe",
    summary: "`llama` with experts picked by sigmoids, a shared one beside them, and partial rotation (GLM-4.5 and 4.6)",
    gguf: Some(GgufFamily {
        architecture: "glm4moe",
        attention_bias: AttentionBias { o: false, ..AttentionBias::ALL },
        feed_forward_norm: "post_attention_norm",
        keys,
        ..llama::PLAIN_GGUF
    }),
    defaults: Defaults {
        vocab_size: 151_552,
        intermediate_size: 10_944,
        num_hidden_layers: 46,
        num_attention_heads: 96,
        num_key_value_heads: Some(8),
        max_position_embeddings: 131_072,
        rms_norm_eps: 1e-5,
        bos_token_id: None,
        eos_token_id: None,
        ..llama::DEFAULTS
    },
    has_mlp_bias: false,
    partial_rotation: Some(0.5),
    read,
    ..llama::FAMILY
};

fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    // The output projection has none, whatever the file says.
    config.attention_bias.o = false;
    config.qk_norm = if fields.flag_or("use_qk_norm", false)? { QkNorm::Head } else { QkNorm::None };
    let first = fields.count_or("first_k_dense_replace", 1)?;
    config.expert_layers = (0..config.num_hidden_layers).map(|layer| layer >= first).collect();
    let intermediate_size = fields.size_or("moe_intermediate_size", 1408)?;
    let count_key = fields.first_of([COUNT, "num_local_experts"]);
    let defaults = ExpertDefaults { count_key, count: 128, per_token: 8, balance_weight: 0.0, intermediate_size };
    let mut experts = experts::read(fields, config.num_hidden_layers, defaults)?;
    experts.scores = RouterScores::Sigmoid;
    experts.picks_with_bias = true;
    experts.normalizes_weights = fields.flag_or("norm_topk_prob", true)?;
    experts.weight_scale = fields.factor("routed_scaling_factor")?.unwrap_or(1.0);
    experts.groups = groups(fields, experts.count, experts.per_token)?;
    let inner = intermediate_size.saturating_mul(fields.size_or("n_shared_experts", 1)?);
    experts.shared = Some(SharedExpert { intermediate_size: inner, is_gated: false });
    config.experts = config.expert_layers.contains(&true).then_some(experts);
    Ok(())
}

/// The groups, unless a token picks all of them.
fn groups(fields: Fields<'_>, num_experts: usize, num_picked: usize) -> Result<Option<ExpertGroups>, HfError> {
    let count = fields.size_or("n_group", 1)?;
    let per_token = fields.size_or("topk_group", 1)?;
    if !num_experts.is_multiple_of(count) || (count > 1 && num_experts / count < 2) {
        return Err(
            fields.wrong("n_group", &format!("a divisor of {COUNT}, {num_experts}, with at least two experts a group"))
        );
    }
    if per_token > count || per_token * (num_experts / count) < num_picked {
        let expected = format!(
            "at most n_group, {count}, with at least num_experts_per_tok, {num_picked}, experts in these groups"
        );
        return Err(fields.wrong("topk_group", &expected));
    }
    Ok((per_token < count).then_some(ExpertGroups { count, per_token }))
}

fn keys(config: &ModelConfig) -> Vec<(&'static str, GgufValue)> {
    let dense = config.expert_layers.iter().take_while(|has_experts| !**has_experts).count();
    let mut keys = vec![("leading_dense_block_count", GgufValue::Count(dense))];
    let Some(experts) = config.experts else { return keys };
    let shared = experts.shared.map_or(0, |shared| shared.intermediate_size / experts.intermediate_size);
    keys.extend([
        ("expert_feed_forward_length", GgufValue::Count(experts.intermediate_size)),
        ("expert_shared_count", GgufValue::Count(shared)),
        ("expert_gating_func", GgufValue::Count(SIGMOIDS)),
        ("expert_weights_scale", GgufValue::Number(experts.weight_scale)),
        ("expert_weights_norm", GgufValue::Flag(experts.normalizes_weights)),
    ]);
    if let Some(groups) = experts.groups {
        keys.push(("expert_group_count", GgufValue::Count(groups.count)));
        keys.push(("expert_group_used_count", GgufValue::Count(groups.per_token)));
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn read(fields: Value) -> Result<ModelConfig, String> {
        let mut value = json!({
            "model_type": "glm4_moe", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
            "num_hidden_layers": 3, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 40,
            "vocab_size": 90,
        });
        fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
        ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_silent_file_has_one_dense_layer_sigmoids_and_one_shared_expert() {
        let config = read(json!({})).unwrap();
        let experts = config.experts.unwrap();
        assert_eq!(config.expert_layers, [false, true, true]);
        assert_eq!(
            (experts.scores, experts.normalizes_weights, experts.weight_scale),
            (RouterScores::Sigmoid, true, 1.0)
        );
        assert_eq!(experts.shared, Some(SharedExpert { intermediate_size: 40, is_gated: false }));
        assert_eq!((experts.groups, config.qk_norm, config.rotary_dim), (None, QkNorm::None, 8));
        let names: Vec<String> = config.tensors().into_iter().map(|spec| spec.name).collect();
        for name in
            ["0.mlp.gate_proj.weight", "1.mlp.gate.e_score_correction_bias", "2.mlp.shared_experts.up_proj.weight"]
        {
            assert!(names.iter().any(|found| *found == format!("model.layers.{name}")), "{name} in {names:?}");
        }
    }

    #[test]
    fn what_a_file_says_is_read() {
        let config = read(json!({
            "first_k_dense_replace": 0, "n_group": 4, "topk_group": 2, "n_shared_experts": 2, "norm_topk_prob": false,
            "routed_scaling_factor": 2.5, "use_qk_norm": true, "attention_bias": true, "head_dim": 32,
        }));
        let config = config.unwrap();
        let experts = config.experts.unwrap();
        assert_eq!(config.expert_layers, [true; 3]);
        assert_eq!(experts.groups, Some(ExpertGroups { count: 4, per_token: 2 }));
        assert_eq!(experts.shared.unwrap().intermediate_size, 80);
        assert_eq!((experts.normalizes_weights, experts.weight_scale), (false, 2.5));
        assert_eq!((config.qk_norm, config.rotary_dim), (QkNorm::Head, 16));
        assert_eq!(config.attention_bias, AttentionBias { o: false, ..AttentionBias::ALL });
        assert!(keys(&config).contains(&("expert_group_used_count", GgufValue::Count(2))));
    }

    #[rstest]
    #[case(json!({ "partial_rotary_factor": 0.25 }), 4)]
    #[case(json!({ "rope_parameters": { "rope_type": "default", "partial_rotary_factor": 1.0 } }), 16)]
    #[case(json!({ "rope_parameters": { "rope_type": "default", "rope_theta": 1e6 } }), 8)]
    fn half_a_head_is_rotated_unless_a_file_says_otherwise(#[case] fields: Value, #[case] expected: usize) {
        assert_eq!(read(fields).unwrap().rotary_dim, expected);
    }

    #[rstest]
    #[case(json!({ "n_group": 3 }), "\"n_group\": expected a divisor of n_routed_experts, 8, with at least two experts a group, found 3")]
    #[case(json!({ "n_group": 8 }), "\"n_group\": expected a divisor of n_routed_experts, 8, with at least two experts a group, found 8")]
    #[case(
        json!({ "n_group": 4, "topk_group": 1 }),
        "\"topk_group\": expected at most n_group, 4, with at least num_experts_per_tok, 3, experts in these groups, found 1"
    )]
    #[case(json!({ "n_shared_experts": 0 }), "\"n_shared_experts\": expected a whole number from 1 to 2147483647, found 0")]
    fn a_wrong_field_is_named(#[case] fields: Value, #[case] expected: &str) {
        assert_eq!(read(fields).unwrap_err(), format!("config.json: field {expected}"));
    }
}
