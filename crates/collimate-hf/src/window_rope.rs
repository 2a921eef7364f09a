//! Rotations of models whose layers with a window are rotated in another way than the others.

use crate::config::ModelConfig;
use crate::error::HfError;
use crate::fields::Fields;
use crate::rope::{RopeFields, RopeScaling, WindowRope, scaling, whole_head};

/// The field with an object for each kind of layer.
const BY_TYPE: &str = "rope_parameters";

/// The object of one kind of layer in a file that has one for each.
fn of_type<'a>(top: Fields<'a>, kind: &'static str, shown: &'static str) -> Result<Option<Fields<'a>>, HfError> {
    let Some(all) = top.object(BY_TYPE)? else { return Ok(None) };
    if let Some(key) = all.keys().find(|key| !["full_attention", "sliding_attention"].contains(key)) {
        return Err(all.wrong(key, "nothing, but an object each in full_attention and sliding_attention"));
    }
    Ok(all.object(kind)?.map(|fields| fields.called(shown)))
}

/// The rotation of layers without a window, where `rope_parameters` has an object for each kind of layer. The older
/// `rope_scaling` is about them alone, and takes precedence as in transformers.
pub(crate) fn of_full_layers(top: Fields<'_>) -> Result<Option<Fields<'_>>, HfError> {
    match top.object("rope_scaling")? {
        Some(fields) => Ok(Some(fields)),
        None => of_type(top, "full_attention", "rope_parameters.full_attention"),
    }
}

/// The rotation of layers with a window, whose base is in `theta_key` in older files; `None` if it is that of the others, or
/// no layer has a window.
pub(crate) fn of_window_layers(
    top: Fields<'_>,
    config: &ModelConfig,
    theta_key: Option<&str>,
    default: f64,
) -> Result<Option<WindowRope>, HfError> {
    let older = theta_key.map_or(Ok(None), |key| top.positive(key))?;
    let inner = of_type(top, "sliding_attention", "rope_parameters.sliding_attention")?;
    let theta = inner.map_or(Ok(None), |fields| fields.positive("rope_theta"))?.or(older).unwrap_or(default);
    whole_head(top, inner, config.head_dim)?;
    let (max_position_embeddings, rotary_dim) = (config.max_position_embeddings, config.rotary_dim);
    let scaling = match inner {
        Some(inner) => scaling(RopeFields { inner, top, max_position_embeddings, rotary_dim })?,
        None => RopeScaling::Default,
    };
    let is_same = theta == config.rope_theta && scaling == config.rope_scaling;
    let is_needed = !is_same && config.layer_windows.iter().any(Option::is_some);
    Ok(is_needed.then_some(WindowRope { theta, scaling }))
}
