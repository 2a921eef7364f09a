//! Gemma 2: Llama with norms around attention and feed-forward layers, softcapped scores and logits, scaled embeddings, and
//! a window in every other layer.

use super::llama;
use crate::config::{Activation, Defaults, Family, GgufFamily, GgufRefusal, HalfNames, ModelConfig, TensorNames};
use crate::error::HfError;
use crate::fields::Fields;
use crate::layers;

/// Layers of the 27B model, the only one whose attention llama.cpp scales by the width instead of the head.
const LAYERS_OF_27B: usize = 46;

pub(super) const FAMILY: Family = Family {
    model_type: "gemma2",
    summary: "`llama` with norms around each half of a block, squashed scores and logits, and windows over every other layer",
    gguf: Some(GGUF),
    defaults: DEFAULTS,
    activation: ("hidden_activation", Activation::GeluTanh),
    has_mlp_bias: false,
    norm_offset: true,
    names: TensorNames {
        attention_norms: HalfNames { before: Some("input_layernorm"), after: Some("post_attention_layernorm") },
        feed_forward_norms: HalfNames {
            before: Some("pre_feedforward_layernorm"),
            after: Some("post_feedforward_layernorm"),
        },
        ..llama::NAMES
    },
    windows,
    read,
    ..llama::FAMILY
};

pub(super) const DEFAULTS: Defaults = Defaults {
    vocab_size: 256_000,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    max_position_embeddings: 8192,
    sliding_window: Some(4096),
    tie_word_embeddings: true,
    bos_token_id: Some(2),
    eos_token_id: Some(1),
    ..llama::DEFAULTS
};

pub(super) const GGUF: GgufFamily = GgufFamily {
    architecture: "gemma2",
    activation: Activation::GeluTanh,
    windows: true,
    attention_divisor: Some(|config| match config.num_hidden_layers == LAYERS_OF_27B {
        true => config.hidden_size / config.num_attention_heads,
        false => config.head_dim,
    }),
    refusal,
    ..llama::PLAIN_GGUF
};

/// Every other layer has a window, starting with the first.
fn windows(fields: Fields<'_>, default: Option<usize>, num_layers: usize) -> Result<Vec<Option<usize>>, HfError> {
    let window = layers::window(fields, default)?;
    if window.is_none() && fields.get("layer_types").is_none() {
        return Err(fields.wrong("sliding_window", "a number of tokens, since every other layer has a window"));
    }
    layers::by_layer(fields, window, num_layers, |layer| layer.is_multiple_of(2))
}

fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    config.attention_scale = 1.0 / fields.factor("query_pre_attn_scalar")?.unwrap_or(256.0).sqrt();
    config.attention_softcap = softcap(fields, "attn_logit_softcapping", 50.0)?;
    config.logit_softcap = softcap(fields, "final_logit_softcapping", 30.0)?;
    config.embedding_scale = Some((config.hidden_size as f64).sqrt());
    Ok(())
}

/// Null turns softcapping off; an absent field does not.
fn softcap(fields: Fields<'_>, key: &str, default: f64) -> Result<Option<f64>, HfError> {
    if fields.is_null(key) { Ok(None) } else { Ok(Some(fields.factor(key)?.unwrap_or(default))) }
}

fn refusal(config: &ModelConfig) -> Option<GgufRefusal> {
    let alternates = |(layer, window): (usize, &Option<usize>)| window.is_some() == layer.is_multiple_of(2);
    let refused = |field, instead| Some(GgufRefusal { field, instead });
    if !config.tie_word_embeddings {
        return refused("tie_word_embeddings", "its output layer is the embedding");
    }
    if !config.layer_windows.iter().enumerate().all(alternates) {
        return refused("layer_types", "every other layer has a window, the first one too");
    }
    if config.attention_softcap.is_none() {
        return refused("attn_logit_softcapping", "it always squashes");
    }
    if config.logit_softcap.is_none() {
        return refused("final_logit_softcapping", "it always squashes");
    }
    None
}
