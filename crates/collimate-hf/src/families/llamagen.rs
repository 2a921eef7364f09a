//! LlamaGen: Llama over the tokens of a picture, in reading order, after one token that says what it shows.

use serde_json::{Value, json};

use super::llama;
use crate::config::{AttentionBias, BiasRule, Defaults, Family, HalfNames, JointNames, ModelConfig, TensorNames};
use crate::error::HfError;
use crate::fields::Fields;

pub(super) const FAMILY: Family = Family {
    model_type: "llamagen",
    summary: "`llama` over the tokens of a picture after its class, positions in two dimensions (LlamaGen)",
    gguf: None,
    defaults: Defaults {
        vocab_size: 16_384,
        rms_norm_eps: 1e-5,
        bos_token_id: None,
        eos_token_id: None,
        ..llama::DEFAULTS
    },
    attention_bias: BiasRule::Always(AttentionBias::NONE),
    has_mlp_bias: false,
    names: NAMES,
    translate: Some(translate),
    read,
    ..llama::FAMILY
};

pub(super) const NAMES: TensorNames = TensorNames {
    root: "",
    embedding: "tok_embeddings",
    conditions: Some("cls_embedding.embedding_table"),
    head: "output",
    qkv: JointNames::Fused("attention.wqkv"),
    o: "attention.wo",
    gate_up: JointNames::Apart(["feed_forward.w1", "feed_forward.w3"]),
    down: "feed_forward.w2",
    attention_norms: HalfNames { before: Some("attention_norm"), after: None },
    feed_forward_norms: HalfNames { before: Some("ffn_norm"), after: None },
    ..llama::NAMES
};

/// Classes of the published models.
const CLASSES: usize = 1000;
/// Tokens of a picture of the smaller published models.
const TOKENS: usize = 256;

/// Sizes under the names of the published `ModelArgs`.
fn translate(fields: Fields<'_>) -> Result<Value, HfError> {
    let (dim, heads) = (fields.size_or("dim", 4096)?, fields.size_or("n_head", 32)?);
    if !dim.is_multiple_of(4 * heads) {
        let expected = format!("a multiple of 4 · n_head, {}: pairs of a head turn with row and column", 4 * heads);
        return Err(fields.wrong("dim", &expected));
    }
    let keys = fields.size("n_kv_head")?.unwrap_or(heads);
    if !heads.is_multiple_of(keys) {
        return Err(fields.wrong("n_kv_head", &format!("a divisor of n_head, {heads}")));
    }
    let layers = fields.size_or("n_layer", 32)?;
    Ok(json!({
        "model_type": FAMILY.model_type,
        "hidden_size": dim,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "num_hidden_layers": layers,
        "intermediate_size": inner_width(fields, dim)?,
        "vocab_size": fields.size_or("vocab_size", FAMILY.defaults.vocab_size)?,
        "rms_norm_eps": fields.positive("norm_eps")?.unwrap_or(FAMILY.defaults.rms_norm_eps),
        "rope_theta": fields.positive("rope_base")?.unwrap_or(FAMILY.defaults.rope_theta),
        "max_position_embeddings": fields.size_or("block_size", TOKENS)? + 1,
        "initializer_range": fields.positive("initializer_range")?,
        "dtype": fields.text("dtype")?,
        "torch_dtype": fields.text("torch_dtype")?,
    }))
}

/// Two thirds of four times the width, times a factor, rounded up to a multiple.
fn inner_width(fields: Fields<'_>, dim: usize) -> Result<usize, HfError> {
    let width = 8 * dim / 3;
    let width = match fields.factor("ffn_dim_multiplier")? {
        Some(factor) => (factor * width as f64) as usize,
        None => width,
    };
    let multiple = fields.size_or("multiple_of", 256)?;
    let width = width.max(1).div_ceil(multiple).checked_mul(multiple);
    width.ok_or_else(|| fields.wrong("multiple_of", "a smaller number"))
}

/// The conditions and the grid.
fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    if fields.text("gpt_type")?.is_some_and(|kind| kind != "c2i") {
        return Err(fields.unsupported("gpt_type", "only c2i is: a picture is drawn for a class"));
    }
    if fields.size_or("cls_token_num", 1)? != 1 {
        return Err(fields.unsupported("cls_token_num", "only 1 is: a class is one token"));
    }
    let tokens = fields.size_or("block_size", TOKENS)?;
    let side = tokens.isqrt();
    if side * side != tokens {
        return Err(fields.wrong("block_size", "a square number: a picture has as many rows as columns"));
    }
    // The last one is the null class, which the published models drop conditions for.
    config.conditions = fields.size_or("num_classes", CLASSES)? + 1;
    config.grid = Some(side);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;

    fn read(change: Value) -> Result<ModelConfig, String> {
        let mut value = json!({
            "model_type": "llamagen", "gpt_type": "c2i", "dim": 64, "n_layer": 2, "n_head": 4, "n_kv_head": null,
            "multiple_of": 32, "ffn_dim_multiplier": null, "rope_base": 5000, "norm_eps": 1e-6, "num_classes": 7,
            "class_dropout_prob": 0.1, "vocab_size": 96, "cls_token_num": 1, "block_size": 16,
        });
        change.as_object().expect("an object").iter().for_each(|(key, field)| value[key] = field.clone());
        ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_conditions_and_names_are_the_published_ones() {
        let config = read(json!({})).expect("a sound configuration");
        assert_eq!((config.hidden_size, config.head_dim, config.num_key_value_heads), (64, 16, 4));
        // 2/3 · 4 · 64 = 170, up to a multiple of 32.
        assert_eq!((config.intermediate_size, config.rms_norm_eps, config.rope_theta), (192, 1e-6, 5000.0));
        assert_eq!((config.conditions, config.grid, config.longest_sequence()), (8, Some(4), Some(17)));
        assert_eq!((config.condition_token(0), config.null_condition()), (Some(96), Some(103)));
        let names: Vec<String> = config.tensors().into_iter().map(|spec| spec.name).collect();
        let first = ["tok_embeddings.weight", "cls_embedding.embedding_table.weight", "layers.0.attention.wqkv.weight"];
        assert_eq!(names[..3], first);
        assert_eq!(names[names.len() - 2..], ["norm.weight", "output.weight"]);
        assert_eq!(config.raw["dim"], 64);
    }

    #[rstest]
    #[case(json!({"ffn_dim_multiplier": 1.3, "multiple_of": 48}), 240)]
    #[case(json!({"dim": 48, "n_head": 2, "multiple_of": 256}), 256)]
    fn the_inner_width_is_rounded_up(#[case] change: Value, #[case] expected: usize) {
        assert_eq!(read(change).expect("a sound configuration").intermediate_size, expected);
    }

    #[rstest]
    #[case(json!({"gpt_type": "t2i"}), "gpt_type")]
    #[case(json!({"cls_token_num": 120}), "cls_token_num")]
    #[case(json!({"block_size": 17}), "block_size")]
    #[case(json!({"dim": 66}), "dim")]
    #[case(json!({"n_kv_head": 3}), "n_kv_head")]
    #[case(json!({"norm_eps": 0}), "norm_eps")]
    #[case(json!({"vocab_size": "many"}), "vocab_size")]
    fn a_field_that_cannot_be_used_is_named_as_in_the_file(#[case] change: Value, #[case] field: &str) {
        let error = read(change).expect_err("refused");
        assert!(error.contains(&format!("field \"{field}\"")), "{error}");
    }
}
