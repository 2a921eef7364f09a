//! OLMo 2: Llama with norms after attention and feed-forward layers instead of before, and norms on whole queries and keys.

use super::llama;
use crate::config::{Defaults, Family, GgufFamily, HalfNames, QkNorm, TensorNames};

pub(super) const FAMILY: Family = Family {
    model_type: "olmo2",
    summary: "`llama` with norms after each half of a block and on whole queries and keys",
    gguf: Some(GGUF),
    defaults: DEFAULTS,
    has_mlp_bias: false,
    qk_norm: QkNorm::Projection,
    names: TensorNames {
        attention_norms: HalfNames { before: None, after: Some("post_attention_layernorm") },
        feed_forward_norms: HalfNames { before: None, after: Some("post_feedforward_layernorm") },
        ..llama::NAMES
    },
    ..llama::FAMILY
};

pub(super) const DEFAULTS: Defaults = Defaults {
    vocab_size: 50_304,
    rms_norm_eps: 1e-5,
    bos_token_id: None,
    eos_token_id: Some(50_279),
    ..llama::DEFAULTS
};

pub(super) const GGUF: GgufFamily =
    GgufFamily { architecture: "olmo2", heads_fill_width: true, repeats_tied_output: true, ..llama::PLAIN_GGUF };
