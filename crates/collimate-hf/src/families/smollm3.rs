//! SmolLM3: Llama with some layers that do not rotate, every fourth by default.

use super::llama;
use crate::config::{Defaults, Family, GgufFamily, GgufRefusal, ModelConfig};
use crate::error::HfError;
use crate::fields::Fields;
use crate::layers;

/// llama.cpp leaves every fourth layer unrotated, whatever a file says.
const GGUF_INTERVAL: usize = 4;

pub(super) const FAMILY: Family = Family {
    model_type: "smollm3",
    summary: "`llama` with layers that do not rotate",
    gguf: Some(GgufFamily { architecture: "smollm3", interleaved: true, refusal, ..llama::PLAIN_GGUF }),
    defaults: Defaults {
        vocab_size: 128_256,
        hidden_size: 2048,
        num_hidden_layers: 36,
        num_attention_heads: 16,
        num_key_value_heads: Some(4),
        max_position_embeddings: 32_768,
        rope_theta: 2_000_000.0,
        tie_word_embeddings: true,
        bos_token_id: Some(128_000),
        eos_token_id: Some(128_001),
        ..llama::DEFAULTS
    },
    windows,
    read: |fields, config| {
        config.rotated_layers = rotated_layers(fields, config.num_hidden_layers)?;
        Ok(())
    },
    ..llama::FAMILY
};

/// By `no_rope_layers` (0 for a layer that does not rotate) or, if absent, by `no_rope_layer_interval`.
fn rotated_layers(fields: Fields<'_>, num_layers: usize) -> Result<Vec<bool>, HfError> {
    let key = "no_rope_layers";
    let interval = fields.size_or("no_rope_layer_interval", 4)?;
    let Some(value) = fields.get(key) else {
        return Ok((0..num_layers).map(|layer| !(layer + 1).is_multiple_of(interval)).collect());
    };
    let flag = |value: &serde_json::Value| match value.as_u64() {
        Some(0) => Some(false),
        Some(1) => Some(true),
        _ => None,
    };
    let flags: Option<Vec<bool>> = value.as_array().and_then(|list| list.iter().take(num_layers).map(flag).collect());
    match flags {
        Some(flags) if flags.len() == num_layers => Ok(flags),
        _ => Err(fields.wrong(key, &format!("a list of 0 and 1, one for each of {num_layers} layers"))),
    }
}

/// With `use_sliding_window`, the layers that do not rotate.
fn windows(fields: Fields<'_>, default: Option<usize>, num_layers: usize) -> Result<Vec<Option<usize>>, HfError> {
    let window = if fields.flag_or("use_sliding_window", false)? { layers::window(fields, default)? } else { None };
    let rotated = rotated_layers(fields, num_layers)?;
    layers::by_layer(fields, window, num_layers, |layer| !rotated[layer])
}

fn refusal(config: &ModelConfig) -> Option<GgufRefusal> {
    let rotates = |layer: usize| !(layer + 1).is_multiple_of(GGUF_INTERVAL);
    let differs = config.rotated_layers.iter().enumerate().any(|(layer, rotated)| *rotated != rotates(layer));
    let instead = "every fourth layer goes without rotation, and no other";
    differs.then_some(GgufRefusal { field: "no_rope_layers", instead })
}
