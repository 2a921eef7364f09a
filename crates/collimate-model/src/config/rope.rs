//! Rotary position settings, from the old fields (`rope_theta`, `rope_scaling`) or the new one (`rope_parameters`).

use super::fields::Fields;
use crate::error::ModelError;

/// What transformers takes where a configuration gives no `rope_theta`, for every architecture here.
const DEFAULT_THETA: f64 = 10_000.0;

/// How rotary frequencies are stretched beyond the context that a model was first trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as they are.
    Default,
    /// Every position divided by `factor`.
    Linear {
        /// How much longer the context is.
        factor: f64,
    },
    /// The base grows with the sequence once that is longer than `original_max_position_embeddings` (NTK-aware).
    Dynamic {
        /// How much longer the context is.
        factor: f64,
        /// Context from which on the base grows: the model's `max_position_embeddings`, as transformers has it.
        original_max_position_embeddings: usize,
    },
    /// Llama 3.1: low frequencies are divided by `factor`, high ones kept, those between are blended.
    Llama3 {
        /// How much longer the context is.
        factor: f64,
        /// Wavelengths longer than the original context over this are divided by `factor`.
        low_freq_factor: f64,
        /// Wavelengths shorter than the original context over this are kept.
        high_freq_factor: f64,
        /// Context of the first training.
        original_max_position_embeddings: usize,
    },
    /// YaRN (arXiv 2309.00071): a ramp between kept and divided frequencies, and a factor on cos and sin.
    Yarn {
        /// How much longer the context is.
        factor: f64,
        /// Context of the first training.
        original_max_position_embeddings: usize,
        /// Rotations over the original context above which a frequency is kept.
        beta_fast: f64,
        /// Rotations over the original context below which a frequency is divided.
        beta_slow: f64,
        /// Factor on cos and sin; none: from `mscale` and `mscale_all_dim` if both are set, else 0.1 ln(factor) + 1.
        attention_factor: Option<f64>,
        /// Weight of the logarithm above the line of the attention factor.
        mscale: Option<f64>,
        /// Weight of the logarithm below the line of the attention factor.
        mscale_all_dim: Option<f64>,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
    },
}

/// `rope_theta` and the scaling of a configuration.
///
/// As in transformers, `rope_scaling` is preferred to `rope_parameters`, and a theta inside them to one outside.
pub(super) fn read(top: Fields<'_>, max_positions: usize) -> Result<(f64, RopeScaling), ModelError> {
    whole_rotation(top)?;
    let outer_theta = top.positive("rope_theta")?;
    let inner = match top.object("rope_scaling")? {
        Some(fields) => Some(fields),
        None => top.object("rope_parameters")?,
    };
    let Some(fields) = inner else {
        return Ok((outer_theta.unwrap_or(DEFAULT_THETA), RopeScaling::Default));
    };
    whole_rotation(fields)?;
    let theta = fields.positive("rope_theta")?.or(outer_theta).unwrap_or(DEFAULT_THETA);
    Ok((theta, scaling(fields, max_positions)?))
}

fn whole_rotation(fields: Fields<'_>) -> Result<(), ModelError> {
    match fields.positive("partial_rotary_factor")? {
        None | Some(1.0) => Ok(()),
        Some(_) => Err(fields.unsupported("partial_rotary_factor", "only 1 is: the whole head is rotated")),
    }
}

fn scaling(fields: Fields<'_>, max_positions: usize) -> Result<RopeScaling, ModelError> {
    let key = if fields.get("rope_type").is_some() { "rope_type" } else { "type" };
    let Some(kind) = fields.text(key)? else {
        let known = ["rope_theta", "partial_rotary_factor", "rope_type", "type"];
        return match fields.keys().find(|key| !known.contains(key)) {
            None => Ok(RopeScaling::Default),
            Some(_) => Err(fields.wrong("rope_type", "a string that says what the other fields are for")),
        };
    };
    match kind {
        "default" => Ok(RopeScaling::Default),
        "linear" => Ok(RopeScaling::Linear { factor: factor(fields)? }),
        "dynamic" => {
            Ok(RopeScaling::Dynamic { factor: factor(fields)?, original_max_position_embeddings: max_positions })
        }
        "llama3" => llama3(fields, max_positions),
        "yarn" => yarn(fields, max_positions),
        _ => Err(fields.unsupported(key, "supported: default, linear, dynamic, llama3, yarn")),
    }
}

fn llama3(fields: Fields<'_>, max_positions: usize) -> Result<RopeScaling, ModelError> {
    let low_freq_factor = required(fields, "low_freq_factor", fields.positive("low_freq_factor")?)?;
    let high_freq_factor = required(fields, "high_freq_factor", fields.positive("high_freq_factor")?)?;
    if high_freq_factor <= low_freq_factor {
        return Err(fields.wrong("high_freq_factor", &format!("more than low_freq_factor, {low_freq_factor}")));
    }
    Ok(RopeScaling::Llama3 {
        factor: factor(fields)?,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: original(fields, max_positions)?,
    })
}

fn yarn(fields: Fields<'_>, max_positions: usize) -> Result<RopeScaling, ModelError> {
    let original = original(fields, max_positions)?;
    let factor = match fields.is_null("factor") {
        true => max_positions as f64 / original as f64,
        false => factor(fields)?,
    };
    // Zero counts as unset in transformers, for each of these.
    let number = |key| {
        let value = fields.number(key, "a number of at least 0", |x| x >= 0.0)?;
        Ok::<_, ModelError>(value.filter(|x| *x != 0.0))
    };
    Ok(RopeScaling::Yarn {
        factor,
        original_max_position_embeddings: original,
        beta_fast: number("beta_fast")?.unwrap_or(32.0),
        beta_slow: number("beta_slow")?.unwrap_or(1.0),
        attention_factor: fields.positive("attention_factor")?,
        mscale: number("mscale")?,
        mscale_all_dim: number("mscale_all_dim")?,
        truncate: fields.flag_or("truncate", true)?,
    })
}

fn original(fields: Fields<'_>, max_positions: usize) -> Result<usize, ModelError> {
    Ok(fields.size("original_max_position_embeddings")?.unwrap_or(max_positions))
}

fn factor(fields: Fields<'_>) -> Result<f64, ModelError> {
    required(fields, "factor", fields.number("factor", "a number of at least 1", |x| x >= 1.0)?)
}

fn required(fields: Fields<'_>, key: &str, value: Option<f64>) -> Result<f64, ModelError> {
    value.ok_or_else(|| fields.wrong(key, "a number"))
}
