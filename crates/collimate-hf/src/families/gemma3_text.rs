//! Gemma 3: Gemma 2 with norms on each head's queries and keys in place of squashed scores, and windows over five of six
//! layers, which are rotated by another base than the others.

use super::gemma2;
use crate::config::{Defaults, Family, GgufFamily, GgufRefusal, ModelConfig, QkNorm};
use crate::error::HfError;
use crate::fields::Fields;
use crate::rope::{RopeScaling, WindowRope};
use crate::{layers, window_rope};

/// Layers from one without a window to the next.
const INTERVAL: usize = 6;
/// Base of the rotation in layers with a window.
const WINDOW_THETA: f64 = 10_000.0;
/// Layers of the 27B model, the only one whose attention llama.cpp scales by the width instead of the head.
const LAYERS_OF_27B: usize = 62;

pub(super) const FAMILY: Family = Family {
    model_type: "gemma3_text",
    summary: "`gemma2` with norms on each head's queries and keys, windows over five of six layers, which have their own rotary base",
    gguf: Some(GgufFamily {
        architecture: "gemma3",
        attention_divisor: Some(|config| match config.num_hidden_layers == LAYERS_OF_27B {
            true => config.hidden_size / config.num_attention_heads,
            false => config.head_dim,
        }),
        refusal,
        ..gemma2::GGUF
    }),
    defaults: Defaults {
        vocab_size: 262_208,
        max_position_embeddings: 131_072,
        rope_theta: 1_000_000.0,
        ..gemma2::DEFAULTS
    },
    qk_norm: QkNorm::Head,
    rope_object: window_rope::of_full_layers,
    windows,
    read,
    ..gemma2::FAMILY
};

/// All but every sixth layer, or what `sliding_window_pattern` says.
fn windows(fields: Fields<'_>, default: Option<usize>, num_layers: usize) -> Result<Vec<Option<usize>>, HfError> {
    let window = layers::window(fields, default)?;
    if window.is_none() && fields.get("layer_types").is_none() {
        return Err(fields.wrong("sliding_window", "a number of tokens, since most layers have a window"));
    }
    let interval = fields.size_or("sliding_window_pattern", INTERVAL)?;
    layers::by_layer(fields, window, num_layers, |layer| !(layer + 1).is_multiple_of(interval))
}

fn read(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    config.attention_scale = 1.0 / fields.factor("query_pre_attn_scalar")?.unwrap_or(256.0).sqrt();
    // transformers reads `attn_logit_softcapping` and computes nothing with it.
    config.logit_softcap = fields.factor("final_logit_softcapping")?;
    config.embedding_scale = Some((config.hidden_size as f64).sqrt());
    config.window_rope = window_rope::of_window_layers(fields, config, Some("rope_local_base_freq"), WINDOW_THETA)?;
    Ok(())
}

fn refusal(config: &ModelConfig) -> Option<GgufRefusal> {
    let is_windowed =
        |(layer, window): (usize, &Option<usize>)| window.is_some() != (layer + 1).is_multiple_of(INTERVAL);
    let refused = |field, instead| Some(GgufRefusal { field, instead });
    let usual = WindowRope { theta: WINDOW_THETA, scaling: RopeScaling::Default };
    if !config.tie_word_embeddings {
        return refused("tie_word_embeddings", "its output layer is the embedding");
    }
    if !config.layer_windows.iter().enumerate().all(is_windowed) {
        return refused("layer_types", "every layer but every sixth has a window");
    }
    if config.window_rope.as_ref().is_some_and(|rope| *rope != usual) {
        return refused("rope_parameters.sliding_attention", "layers with a window are rotated by the base 10000");
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn read(fields: Value) -> Result<ModelConfig, String> {
        let mut value = json!({
            "model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 7, "vocab_size": 90, "sliding_window": 16,
        });
        fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
        ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
    }

    #[test]
    fn llama_cpp_has_windows_over_five_of_six_layers() {
        let field = |fields| refusal(&read(fields).unwrap()).map(|refusal| refusal.field);
        assert_eq!(field(json!({})), None);
        assert_eq!(field(json!({ "sliding_window_pattern": 2 })), Some("layer_types"));
        assert_eq!(field(json!({ "rope_local_base_freq": 5e3 })), Some("rope_parameters.sliding_attention"));
        assert_eq!(field(json!({ "tie_word_embeddings": false })), Some("tie_word_embeddings"));
    }
}
