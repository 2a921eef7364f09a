//! Qwen 3: Qwen 2 with a norm on each head's queries and keys instead of biases.

use super::{llama, qwen2};
use crate::config::{BiasRule, Defaults, Family, GgufFamily, QkNorm};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3",
    summary: "`qwen2` with norms on each head's queries and keys in place of biases",
    gguf: Some(GGUF),
    defaults: DEFAULTS,
    attention_bias: BiasRule::ByField,
    qk_norm: QkNorm::Head,
    ..qwen2::FAMILY
};

pub(super) const DEFAULTS: Defaults = Defaults { head_dim: Some(128), ..qwen2::DEFAULTS };

pub(super) const GGUF: GgufFamily = GgufFamily { architecture: "qwen3", ..llama::PLAIN_GGUF };
