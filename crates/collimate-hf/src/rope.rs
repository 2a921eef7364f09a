//! Rotary embeddings: reads the old fields (`rope_theta`, `rope_scaling`) and the new one (`rope_parameters`).

use crate::error::HfError;
use crate::fields::Fields;

/// Scaling of rotary frequencies for contexts longer than in pretraining.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Unscaled.
    Default,
    /// Every position divided by `factor`.
    Linear {
        /// Ratio of the contexts.
        factor: f64,
    },
    /// The base grows with sequences longer than `original_max_position_embeddings` (NTK-aware).
    Dynamic {
        /// Ratio of the contexts.
        factor: f64,
        /// Length from which the base grows: the model's `max_position_embeddings`, as in transformers.
        original_max_position_embeddings: usize,
    },
    /// Llama 3.1: low frequencies are divided by `factor`, high ones kept, and those between blended.
    Llama3 {
        /// Ratio of the contexts.
        factor: f64,
        /// Wavelengths longer than the original context divided by this are scaled.
        low_freq_factor: f64,
        /// Wavelengths shorter than the original context divided by this are kept.
        high_freq_factor: f64,
        /// Context length of pretraining.
        original_max_position_embeddings: usize,
    },
    /// YaRN (arXiv 2309.00071): a ramp between kept and divided frequencies, and a factor on cos and sin.
    Yarn {
        /// Ratio of the contexts.
        factor: f64,
        /// Context length of pretraining.
        original_max_position_embeddings: usize,
        /// Rotations over the original context above which a frequency is kept.
        beta_fast: f64,
        /// Rotations over the original context below which a frequency is divided.
        beta_slow: f64,
        /// Factor on cos and sin; by default from `mscale` and `mscale_all_dim` if both are set, else 0.1 ln(factor) + 1.
        attention_factor: Option<f64>,
        /// Weight of the logarithm in the numerator of the attention factor.
        mscale: Option<f64>,
        /// Weight of the logarithm in its denominator.
        mscale_all_dim: Option<f64>,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
    },
    /// LongRoPE (arXiv 2402.13753): divides each frequency by its own factor.
    ///
    /// transformers uses other factors for sequences longer than `original_max_position_embeddings`, which would make a
    /// prompt's hidden states depend on the response after it. Such sequences are refused.
    Long {
        /// A factor for each frequency, up to the original context.
        short_factor: Vec<f64>,
        /// Context length of pretraining.
        original_max_position_embeddings: usize,
        /// Factor on cos and sin.
        attention_factor: f64,
    },
}

/// The rotation of layers with a window, in a model whose other layers are rotated in another way.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowRope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Their scaling.
    pub scaling: RopeScaling,
}

/// Growth of rotated queries with their position p, as in Llama 4: by 1 + β ln(1 + ⌊p / n⌋).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryGrowth {
    /// β.
    pub beta: f64,
    /// n, in tokens.
    pub length: usize,
}

/// The fields that describe a scaling, and what its values depend on.
#[derive(Clone, Copy)]
pub(crate) struct RopeFields<'a> {
    /// `rope_scaling` or `rope_parameters`.
    pub(crate) inner: Fields<'a>,
    /// The file's top level.
    pub(crate) top: Fields<'a>,
    pub(crate) max_position_embeddings: usize,
    /// Number of components of a head that are rotated.
    pub(crate) rotary_dim: usize,
}

/// The object that describes the rotation. If a file has both, `rope_scaling` takes precedence, as in transformers.
pub(crate) fn inner(top: Fields<'_>) -> Result<Option<Fields<'_>>, HfError> {
    match top.object("rope_scaling")? {
        Some(fields) => Ok(Some(fields)),
        None => top.object("rope_parameters"),
    }
}

/// The base of the frequencies. The rotation's own object takes precedence.
pub(crate) fn theta(top: Fields<'_>, inner: Option<Fields<'_>>, default: f64) -> Result<f64, HfError> {
    let outer = top.positive("rope_theta")?;
    let inner = inner.map_or(Ok(None), |fields| fields.positive("rope_theta"))?;
    Ok(inner.or(outer).unwrap_or(default))
}

const SHARE: &str = "partial_rotary_factor";

/// The whole head. Partial rotation is refused.
pub(crate) fn whole_head(top: Fields<'_>, inner: Option<Fields<'_>>, head_dim: usize) -> Result<usize, HfError> {
    for fields in [Some(top), inner].into_iter().flatten() {
        match fields.positive(SHARE)? {
            None | Some(1.0) => {}
            Some(_) => return Err(fields.unsupported(SHARE, "only 1 is: the whole head is rotated")),
        }
    }
    Ok(head_dim)
}

/// The rotated part of a head, by `partial_rotary_factor` or a family's default; truncated like Python's `int()`.
pub(crate) fn part_of_head(
    top: Fields<'_>,
    inner: Option<Fields<'_>>,
    head_dim: usize,
    default: f64,
) -> Result<usize, HfError> {
    let fields = inner.filter(|fields| fields.get(SHARE).is_some()).unwrap_or(top);
    let share = fields.positive(SHARE)?.unwrap_or(default);
    let dim = (head_dim as f64 * share) as usize;
    if share > 1.0 || dim == 0 || !dim.is_multiple_of(2) {
        return Err(fields.wrong(SHARE, &format!("a share of the head, {head_dim}, that is an even number")));
    }
    Ok(dim)
}

/// The field that names the kind of scaling, and the kind; `None` if nothing is scaled.
pub(crate) fn kind<'a>(fields: Fields<'a>) -> Result<Option<(&'static str, &'a str)>, HfError> {
    let key = if fields.get("rope_type").is_some() { "rope_type" } else { "type" };
    if let Some(kind) = fields.text(key)? {
        return Ok(Some((key, kind)));
    }
    let known = ["rope_theta", SHARE, "rope_type", "type"];
    match fields.keys().find(|key| !known.contains(key)) {
        None => Ok(None),
        Some(_) => Err(fields.wrong("rope_type", "a string that says what the other fields are for")),
    }
}

/// LongRoPE.
pub(crate) fn long(rope: RopeFields<'_>) -> Result<RopeScaling, HfError> {
    let RopeFields { inner: fields, top, max_position_embeddings, rotary_dim } = rope;
    let key = "original_max_position_embeddings";
    let original = top.size_or(key, 4096)?;
    if original < 2 {
        return Err(top.wrong(key, "at least 2"));
    }
    let factors = |key| fields.factors(key, rotary_dim / 2)?.ok_or_else(|| fields.wrong(key, "a list of numbers"));
    let short_factor = factors("short_factor")?;
    // Unused, but a file without it is broken.
    factors("long_factor")?;
    let factor = fields.number("factor", "a number of at least 1", |x| x >= 1.0)?;
    let factor = factor.unwrap_or(max_position_embeddings as f64 / original as f64);
    let by_context = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
    let attention_factor = fields
        .number("attention_factor", "a number from 0.001 to 1000", |x| (1e-3..=1e3).contains(&x))?
        .unwrap_or(by_context);
    Ok(RopeScaling::Long { short_factor, original_max_position_embeddings: original, attention_factor })
}

/// The scalings that most families share.
pub(crate) fn scaling(rope: RopeFields<'_>) -> Result<RopeScaling, HfError> {
    let (fields, max_positions) = (rope.inner, rope.max_position_embeddings);
    let Some((key, kind)) = kind(fields)? else { return Ok(RopeScaling::Default) };
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

fn llama3(fields: Fields<'_>, max_positions: usize) -> Result<RopeScaling, HfError> {
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

fn yarn(fields: Fields<'_>, max_positions: usize) -> Result<RopeScaling, HfError> {
    let original = original(fields, max_positions)?;
    let factor = match fields.is_null("factor") {
        true => max_positions as f64 / original as f64,
        false => factor(fields)?,
    };
    // transformers treats zero as unset for each of these.
    let number = |key| {
        let value = fields.number(key, "a number of at least 0", |x| x >= 0.0)?;
        Ok::<_, HfError>(value.filter(|x| *x != 0.0))
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

fn original(fields: Fields<'_>, max_positions: usize) -> Result<usize, HfError> {
    Ok(fields.size("original_max_position_embeddings")?.unwrap_or(max_positions))
}

fn factor(fields: Fields<'_>) -> Result<f64, HfError> {
    required(fields, "factor", fields.number("factor", "a number of at least 1", |x| x >= 1.0)?)
}

fn required(fields: Fields<'_>, key: &str, value: Option<f64>) -> Result<f64, HfError> {
    value.ok_or_else(|| fields.wrong(key, "a number"))
}
