//! What differs from layer to layer: how far back a layer sees, and whether it rotates.

use serde_json::Value;

use super::Architecture;
use super::fields::Fields;
use crate::error::ModelError;

/// Whether each layer rotates queries and keys: all do, but for those that SmolLM3 names by `no_rope_layers` (0 for a
/// layer that does not) or by `no_rope_layer_interval`.
pub(super) fn rotated_layers(
    architecture: Architecture,
    fields: Fields<'_>,
    num_layers: usize,
) -> Result<Vec<bool>, ModelError> {
    if architecture != Architecture::SmolLm3 {
        return Ok(vec![true; num_layers]);
    }
    let key = "no_rope_layers";
    let interval = fields.size_or("no_rope_layer_interval", 4)?;
    let Some(value) = fields.get(key) else {
        return Ok((0..num_layers).map(|layer| !(layer + 1).is_multiple_of(interval)).collect());
    };
    let flag = |value: &Value| match value.as_u64() {
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

/// The window of each layer: Llama and OLMo 2 have none, Mistral, Mixtral and Phi-3 one for all, the others those that
/// `layer_types` names. Where a file has none, Qwen goes by `max_window_layers`, Gemma 2 takes every other layer and
/// SmolLM3 those that do not rotate.
pub(super) fn layer_windows(
    architecture: Architecture,
    fields: Fields<'_>,
    default: Option<usize>,
    rotated_layers: &[bool],
) -> Result<Vec<Option<usize>>, ModelError> {
    let num_layers = rotated_layers.len();
    let window = window(architecture, fields, default)?;
    let first = match architecture {
        Architecture::Qwen2 | Architecture::Qwen3 => first_windowed_layer(fields)?,
        _ => 0,
    };
    let is_windowed = |layer: usize| match architecture {
        Architecture::Gemma2 => layer.is_multiple_of(2),
        Architecture::SmolLm3 => !rotated_layers[layer],
        _ => layer >= first,
    };
    let windows: Vec<_> = (0..num_layers).map(|layer| window.filter(|_| is_windowed(layer))).collect();
    let Some(kinds) = fields.texts("layer_types")? else {
        return match (architecture, window) {
            (Architecture::Gemma2, None) => {
                Err(fields.wrong("sliding_window", "a number of tokens, since every other layer has a window"))
            }
            _ => Ok(windows),
        };
    };
    let by_type = by_type(fields, &kinds, window, num_layers)?;
    let uniform = match architecture {
        Architecture::Llama | Architecture::Mistral | Architecture::Mixtral => true,
        Architecture::Phi3 | Architecture::Olmo2 => true,
        Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Gemma2 | Architecture::SmolLm3 => false,
    };
    if uniform && by_type != windows {
        return Err(fields.unsupported("layer_types", "this architecture has the same attention in every layer"));
    }
    Ok(by_type)
}

/// The window of those layers that have one.
fn window(architecture: Architecture, fields: Fields<'_>, default: Option<usize>) -> Result<Option<usize>, ModelError> {
    let used = match architecture {
        Architecture::Llama | Architecture::Olmo2 => false,
        Architecture::Qwen2 | Architecture::Qwen3 | Architecture::SmolLm3 => {
            fields.flag_or("use_sliding_window", false)?
        }
        Architecture::Mistral | Architecture::Mixtral | Architecture::Phi3 | Architecture::Gemma2 => true,
    };
    match fields.size("sliding_window") {
        _ if !used => Ok(None),
        Ok(None) if !fields.is_null("sliding_window") => Ok(default),
        window => window,
    }
}

fn by_type(
    fields: Fields<'_>,
    kinds: &[&str],
    window: Option<usize>,
    num_layers: usize,
) -> Result<Vec<Option<usize>>, ModelError> {
    if kinds.len() != num_layers {
        return Err(fields.wrong("layer_types", &format!("one for each of {num_layers} layers")));
    }
    let windows = kinds.iter().map(|kind| match *kind {
        "full_attention" => Ok(None),
        "sliding_attention" if window.is_some() => Ok(window),
        "sliding_attention" => {
            Err(fields.wrong("layer_types", "no sliding_attention where there is no sliding window"))
        }
        _ => Err(fields.unsupported("layer_types", "supported: full_attention, sliding_attention")),
    });
    windows.collect()
}

fn first_windowed_layer(fields: Fields<'_>) -> Result<usize, ModelError> {
    match fields.get("max_window_layers") {
        None => Ok(28),
        Some(value) => match value.as_u64().and_then(|layers| usize::try_from(layers).ok()) {
            Some(layers) => Ok(layers),
            None => Err(fields.wrong("max_window_layers", "a whole number")),
        },
    }
}
