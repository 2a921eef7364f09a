//! The text models of Qwen2-VL and Qwen2.5-VL: Qwen 2 with positions on three axes.

use super::qwen2;
use crate::config::{Defaults, Family, ModelConfig};
use crate::error::HfError;
use crate::fields::Fields;
use crate::rope::{self, RopeFields, RopeScaling};

const SECTIONS: &str = "mrope_section";

pub(super) const FAMILY: Family = Family {
    model_type: "qwen2_vl_text",
    summary: "`qwen2` with positions on three axes, the text model of `qwen2_vl`",
    gguf: None,
    defaults: Defaults {
        vocab_size: 152_064,
        hidden_size: 8192,
        intermediate_size: 29_568,
        num_hidden_layers: 80,
        num_attention_heads: 64,
        num_key_value_heads: Some(8),
        rms_norm_eps: 1e-5,
        rope_theta: 1_000_000.0,
        ..qwen2::DEFAULTS
    },
    rope_scaling: scaling,
    read: sections,
    ..qwen2::FAMILY
};

pub(super) const SECOND: Family =
    Family { model_type: "qwen2_5_vl_text", summary: "the same, the text model of `qwen2_5_vl`", ..FAMILY };

/// What the hub's files call `mrope` scales nothing.
fn scaling(rope: RopeFields<'_>) -> Result<RopeScaling, HfError> {
    match rope::kind(rope.inner)? {
        Some((_, "mrope")) => Ok(RopeScaling::Default),
        _ => rope::scaling(rope),
    }
}

/// How many frequencies of a head turn with time, row and column.
fn sections(fields: Fields<'_>, config: &mut ModelConfig) -> Result<(), HfError> {
    let inner = rope::inner(fields)?;
    let given = inner.map(|inner| inner.counts(SECTIONS)).transpose()?.flatten();
    let sections = given.unwrap_or_else(|| vec![16, 24, 24]);
    let half = config.head_dim / 2;
    let sections: Option<[usize; 3]> = sections.try_into().ok();
    let sections = sections.filter(|sections| sections.iter().sum::<usize>() == half);
    let expected = format!("three numbers of frequencies that add up to half a head, {half}");
    config.mrope_sections = Some(sections.ok_or_else(|| inner.unwrap_or(fields).wrong(SECTIONS, &expected))?);
    Ok(())
}
