//! Qwen 3.5: Gated DeltaNet in three of four layers, and attention with gates on its output in the others.

use super::qwen3;
use crate::config::{Activation, Defaults, Family, LinearAttention, ModelConfig};
use crate::error::HfError;
use crate::fields::Fields;
use crate::layers;

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3_5_text",
    summary: "`qwen3` with Gated DeltaNet in three of four layers, gates on the output of attention, and partial rotation",
    gguf: None,
    defaults: Defaults {
        vocab_size: 248_320,
        intermediate_size: 12_288,
        num_attention_heads: 16,
        num_key_value_heads: Some(4),
        head_dim: Some(256),
        ..qwen3::FAMILY.defaults
    },
    norm_offset: true,
    partial_rotation: Some(0.25),
    windows: |_, _, num_layers| Ok(vec![None; num_layers]),
    read,
    ..qwen3::FAMILY
};

const LINEAR: LinearAttention =
    LinearAttention { key_heads: 16, value_heads: 32, key_dim: 128, value_dim: 128, taps: 4 };

/// Every fourth layer has full attention.
const FOURTH: usize = 4;

pub(super) fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    config.linear_attention = Some(LinearAttention::read(fields, LINEAR)?);
    config.linear_layers = layers::linear(fields, FOURTH, config.num_hidden_layers)?;
    config.attention_gate = true;
    if !fields.flag_or("attn_output_gate", true)? {
        return Err(fields.unsupported("attn_output_gate", "the output of attention is always gated"));
    }
    if config.hidden_act != Activation::Silu {
        return Err(fields.unsupported(config.family.activation.0, "only silu is"));
    }
    Ok(())
}
