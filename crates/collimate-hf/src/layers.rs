//! Kinds of layers and their sliding windows: building blocks for the families' rules.

use crate::error::HfError;
use crate::fields::Fields;

/// `sliding_window`, or the default if it is absent; null turns windows off.
pub(crate) fn window(fields: Fields<'_>, default: Option<usize>) -> Result<Option<usize>, HfError> {
    match fields.size("sliding_window")? {
        None if !fields.is_null("sliding_window") => Ok(default),
        window => Ok(window),
    }
}

/// The same window, or none, in every layer. `layer_types` may not contradict that.
pub(crate) fn uniform(
    fields: Fields<'_>,
    window: Option<usize>,
    num_layers: usize,
) -> Result<Vec<Option<usize>>, HfError> {
    let windows = by_layer(fields, window, num_layers, |_| true)?;
    match windows.iter().all(|layer| *layer == window) {
        true => Ok(windows),
        false => Err(fields.unsupported("layer_types", "this architecture has the same attention in every layer")),
    }
}

/// The window in the layers that `layer_types` lists or, without that field, `is_windowed` picks.
pub(crate) fn by_layer(
    fields: Fields<'_>,
    window: Option<usize>,
    num_layers: usize,
    is_windowed: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, HfError> {
    match fields.texts("layer_types")? {
        Some(kinds) => by_type(fields, &kinds, window, num_layers),
        None => Ok((0..num_layers).map(|layer| window.filter(|_| is_windowed(layer))).collect()),
    }
}

fn by_type(
    fields: Fields<'_>,
    kinds: &[&str],
    window: Option<usize>,
    num_layers: usize,
) -> Result<Vec<Option<usize>>, HfError> {
    if kinds.len() != num_layers {
        return Err(fields.wrong("layer_types", &format!("one for each of {num_layers} layers")));
    }
    let windows = kinds.iter().map(|kind| match *kind {
        "full_attention" => Ok(None),
        "sliding_attention" if window.is_some() => Ok(window),
        "sliding_attention" => {
            Err(fields.wrong("layer_types", "no sliding_attention where there is no sliding window"))
        }
        _ => Err(fields.unsupported("layer_types", "supported: full_attention, sliding_attention")),
    });
    windows.collect()
}

/// Which layers are linear: those that `layer_types` lists or, without that field, all but every `interval`th.
pub(crate) fn linear(fields: Fields<'_>, interval: usize, num_layers: usize) -> Result<Vec<bool>, HfError> {
    let interval = fields.size_or("full_attention_interval", interval)?;
    let Some(kinds) = fields.texts("layer_types")? else {
        return Ok((1..=num_layers).map(|layer| !layer.is_multiple_of(interval)).collect());
    };
    if kinds.len() != num_layers {
        return Err(fields.wrong("layer_types", &format!("one for each of {num_layers} layers")));
    }
    let kinds = kinds.iter().map(|kind| match *kind {
        "linear_attention" => Ok(true),
        "full_attention" => Ok(false),
        _ => Err(fields.unsupported("layer_types", "supported: linear_attention, full_attention")),
    });
    kinds.collect()
}
