//! Phi-3, Phi-3.5 and Phi-4: Mistral with fused projections, optionally partial rotation, and LongRoPE.

use super::{llama, mistral};
use crate::config::{Defaults, Family, GgufFamily, GgufValue, JointNames, TensorNames};
use crate::error::HfError;
use crate::rope::{self, RopeFields, RopeScaling};

pub(super) const FAMILY: Family = Family {
    model_type: "phi3",
    summary: "`mistral` with fused projections and LongRoPE (Phi-3, Phi-3.5 and Phi-4)",
    gguf: Some(GgufFamily {
        architecture: "phi3",
        heads_fill_width: true,
        // 0 distinguishes a model without a window from files written before llama.cpp required the key.
        keys: |config| match config.layer_windows.iter().flatten().next() {
            None => vec![("attention.sliding_window", GgufValue::Count(0))],
            Some(_) => Vec::new(),
        },
        ..llama::PLAIN_GGUF
    }),
    defaults: Defaults {
        vocab_size: 32_064,
        hidden_size: 3072,
        intermediate_size: 8192,
        max_position_embeddings: 4096,
        rms_norm_eps: 1e-5,
        eos_token_id: Some(32_000),
        ..llama::DEFAULTS
    },
    names: TensorNames {
        qkv: JointNames::Fused("self_attn.qkv_proj"),
        gate_up: JointNames::Fused("mlp.gate_up_proj"),
        ..llama::NAMES
    },
    partial_rotation: Some(1.0),
    rope_scaling,
    ..mistral::FAMILY
};

/// LongRoPE or none. Early files call it `su` or `yarn`.
fn rope_scaling(fields: RopeFields<'_>) -> Result<RopeScaling, HfError> {
    match rope::kind(fields.inner)? {
        None | Some((_, "default")) => Ok(RopeScaling::Default),
        Some((_, "longrope" | "su" | "yarn")) => rope::long(fields),
        Some((key, _)) => Err(fields.inner.unsupported(key, "supported by this architecture: default, longrope, su")),
    }
}
