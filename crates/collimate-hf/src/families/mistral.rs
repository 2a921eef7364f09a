//! Mistral: Llama with a sliding window in every layer, and without biases.

use super::llama;
use crate::config::{AttentionBias, BiasRule, Defaults, Family};
use crate::layers;

pub(super) const FAMILY: Family = Family {
    model_type: "mistral",
    summary: "`llama` with a sliding window over every layer",
    defaults: DEFAULTS,
    attention_bias: BiasRule::Always(AttentionBias::NONE),
    has_mlp_bias: false,
    windows: |fields, default, num_layers| layers::uniform(fields, layers::window(fields, default)?, num_layers),
    ..llama::FAMILY
};

pub(super) const DEFAULTS: Defaults = Defaults {
    intermediate_size: 14_336,
    num_key_value_heads: Some(8),
    max_position_embeddings: 4096 * 32,
    sliding_window: Some(4096),
    ..llama::DEFAULTS
};
