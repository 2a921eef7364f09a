//! Qwen 2 and 2.5: Llama with biases on queries, keys and values, and windows in the last layers if a file asks for them.

use super::llama;
use crate::config::{AttentionBias, BiasRule, Defaults, Family, GgufFamily};
use crate::error::HfError;
use crate::fields::Fields;
use crate::layers;

const BIAS: AttentionBias = AttentionBias { o: false, ..AttentionBias::ALL };

pub(super) const FAMILY: Family = Family {
    model_type: "qwen2",
    summary: "`llama` with biases on queries, keys and values (Qwen 2 and 2.5)",
    gguf: Some(GgufFamily { architecture: "qwen2", attention_bias: BIAS, heads_fill_width: true, ..llama::PLAIN_GGUF }),
    defaults: DEFAULTS,
    attention_bias: BiasRule::Always(BIAS),
    has_mlp_bias: false,
    windows,
    ..llama::FAMILY
};

pub(super) const DEFAULTS: Defaults = Defaults {
    vocab_size: 151_936,
    intermediate_size: 22_016,
    num_key_value_heads: Some(32),
    max_position_embeddings: 32_768,
    sliding_window: Some(4096),
    bos_token_id: None,
    eos_token_id: None,
    ..llama::DEFAULTS
};

/// With `use_sliding_window`, the layers from `max_window_layers` on.
fn windows(fields: Fields<'_>, default: Option<usize>, num_layers: usize) -> Result<Vec<Option<usize>>, HfError> {
    let window = if fields.flag_or("use_sliding_window", false)? { layers::window(fields, default)? } else { None };
    let first = fields.count_or("max_window_layers", 28)?;
    layers::by_layer(fields, window, num_layers, |layer| layer >= first)
}
