//! Qwen 3 with experts: Qwen 3 with several feed-forward layers in most blocks, some of which a router picks for each token.

use super::qwen3;
use crate::config::{Defaults, Family, GgufFamily, GgufRefusal, GgufValue, ModelConfig};
use crate::error::HfError;
use crate::experts::{self, ExpertDefaults};
use crate::fields::Fields;
use crate::layers;

/// The field with the blocks that have one feed-forward layer.
const DENSE: &str = "mlp_only_layers";
/// The field with the distance between blocks that have experts.
const STEP: &str = "decoder_sparse_step";

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3_moe",
    summary: "`qwen3` with experts",
    gguf: Some(GgufFamily { architecture: "qwen3moe", keys, refusal, ..qwen3::GGUF }),
    defaults: Defaults {
        hidden_size: 2048,
        intermediate_size: 6144,
        num_hidden_layers: 24,
        num_key_value_heads: Some(4),
        head_dim: None,
        ..qwen3::DEFAULTS
    },
    windows,
    read,
    ..qwen3::FAMILY
};

/// With `use_sliding_window`, every layer.
fn windows(fields: Fields<'_>, default: Option<usize>, num_layers: usize) -> Result<Vec<Option<usize>>, HfError> {
    let window = if fields.flag_or("use_sliding_window", false)? { layers::window(fields, default)? } else { None };
    layers::uniform(fields, window, num_layers)
}

fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    let num_layers = config.num_hidden_layers;
    // Newer files have the second name.
    let count_key = fields.first_of(["num_experts", "num_local_experts"]);
    let intermediate_size = fields.size_or("moe_intermediate_size", 768)?;
    let defaults = ExpertDefaults { count_key, count: 128, per_token: 8, balance_weight: 0.001, intermediate_size };
    let mut experts = experts::read(fields, num_layers, defaults)?;
    experts.normalizes_weights = fields.flag_or("norm_topk_prob", false)?;
    config.expert_layers = expert_layers(fields, num_layers)?;
    // Without a block that has them, nothing is left to route.
    config.experts = config.expert_layers.contains(&true).then_some(experts);
    Ok(())
}

/// Every `decoder_sparse_step`th layer, except those in `mlp_only_layers`.
fn expert_layers(fields: Fields<'_>, num_layers: usize) -> Result<Vec<bool>, HfError> {
    let step = fields.size_or(STEP, 1)?;
    let mut layers: Vec<bool> = (1..=num_layers).map(|number| number.is_multiple_of(step)).collect();
    for dense in fields.counts(DENSE)?.unwrap_or_default() {
        // A number beyond the last layer names none, as in transformers.
        if let Some(has_experts) = layers.get_mut(dense) {
            *has_experts = false;
        }
    }
    Ok(layers)
}

fn keys(config: &ModelConfig) -> Vec<(&'static str, GgufValue)> {
    let width = config.experts.map(|experts| experts.intermediate_size);
    width.into_iter().map(|width| ("expert_feed_forward_length", GgufValue::Count(width))).collect()
}

fn refusal(config: &ModelConfig) -> Option<GgufRefusal> {
    let refused = |field, instead| Some(GgufRefusal { field, instead });
    match config.experts {
        None => refused(DENSE, "every block has experts"),
        Some(_) if config.expert_layers.contains(&false) => refused(DENSE, "every block has experts"),
        Some(experts) if !experts.normalizes_weights => {
            refused("norm_topk_prob", "the weights of a token's experts are divided by their sum")
        }
        Some(_) => None,
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
            "model_type": "qwen3_moe", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4, "num_experts": 6,
            "num_experts_per_tok": 2, "moe_intermediate_size": 48, "vocab_size": 90,
        });
        fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
        ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
    }

    #[rstest]
    #[case(json!({}), [true; 4])]
    #[case(json!({ "mlp_only_layers": null }), [true; 4])]
    #[case(json!({ "mlp_only_layers": [1, 9] }), [true, false, true, true])]
    #[case(json!({ "decoder_sparse_step": 2 }), [false, true, false, true])]
    #[case(json!({ "decoder_sparse_step": 2, "mlp_only_layers": [3] }), [false, true, false, false])]
    fn experts_are_in_the_layers_that_a_file_says(#[case] fields: Value, #[case] expected: [bool; 4]) {
        let config = read(fields).unwrap();
        assert_eq!(config.expert_layers, expected);
        for (layer, has_experts) in expected.into_iter().enumerate() {
            let block = config.block(layer);
            // Attention, then gate, up and down; or a router and three matrices an expert.
            assert_eq!(block.linears().len(), 4 + if has_experts { 1 + 3 * 6 } else { 3 });
            let gate = block.linears()[5];
            match has_experts {
                true => assert!(gate.module.ends_with("mlp.experts.0.gate_proj") && gate.out_features == 48),
                false => assert!(gate.module.ends_with("mlp.up_proj") && gate.out_features == 6144),
            }
        }
    }

    #[test]
    fn a_model_whose_layers_are_all_dense_has_no_experts() {
        let config = read(json!({ "mlp_only_layers": [0, 1, 2, 3] })).unwrap();
        assert!(config.experts.is_none());
        assert_eq!(refusal(&config).map(|refusal| refusal.field), Some("mlp_only_layers"));
    }

    #[test]
    fn old_and_new_names_are_read_and_weights_are_not_normalized_unless_a_file_says_so() {
        let experts = read(json!({})).unwrap().experts.unwrap();
        assert_eq!((experts.count, experts.per_token, experts.intermediate_size), (6, 2, 48));
        assert!(!experts.normalizes_weights);
        let newer = json!({ "num_experts": null, "num_local_experts": 5, "norm_topk_prob": true });
        let experts = read(newer).unwrap().experts.unwrap();
        assert!(experts.count == 5 && experts.normalizes_weights);
    }

    #[rstest]
    #[case(json!({ "mlp_only_layers": [0.5] }), "\"mlp_only_layers\": expected a list of whole numbers, found [0.5]")]
    #[case(json!({ "decoder_sparse_step": 0 }), "\"decoder_sparse_step\": expected a whole number from 1 to 2147483647, found 0")]
    #[case(json!({ "num_experts_per_tok": 7 }), "\"num_experts_per_tok\": expected at most num_experts, 6, found 7")]
    fn a_wrong_field_is_named(#[case] fields: Value, #[case] expected: &str) {
        assert_eq!(read(fields).unwrap_err(), format!("config.json: field {expected}"));
    }

    #[test]
    fn llama_cpp_has_experts_in_every_block_with_normalized_weights() {
        let field = |fields| refusal(&read(fields).unwrap()).map(|refusal| refusal.field);
        assert_eq!(field(json!({})), Some("norm_topk_prob"));
        assert_eq!(field(json!({ "norm_topk_prob": true, "mlp_only_layers": [0] })), Some("mlp_only_layers"));
        let config = read(json!({ "norm_topk_prob": true })).unwrap();
        assert_eq!(refusal(&config), None);
        assert_eq!(keys(&config), [("expert_feed_forward_length", GgufValue::Count(48))]);
    }
}
