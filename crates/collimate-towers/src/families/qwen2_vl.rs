//! Qwen2-VL: LayerNorm, quick GELU, every patch of an image attends to all of it.

use super::TowerFamily;
use crate::fields::{Fields, TowerError};
use crate::tower::{FeedForward, Norm, Tower};

pub(super) const FAMILY: TowerFamily =
    TowerFamily { model_type: "qwen2_vl", image_token: 151_655, root: "model.visual", read };

fn read(family: &'static TowerFamily, fields: Fields<'_>, text_width: usize) -> Result<Tower, TowerError> {
    fields.only("hidden_act", "quick_gelu")?;
    // `hidden_size` is the text model's width here, and `embed_dim` the tower's.
    let out_width = fields.size("hidden_size", 3584)?;
    let width = fields.size("embed_dim", 1280)?;
    let tower = Tower {
        intermediate: (width as f64 * fields.factor("mlp_ratio", 4.0)?) as usize,
        width,
        norm: Norm::Layer,
        feed_forward: FeedForward::QuickGelu,
        windows: None,
        ..common(family, fields)?
    };
    joined(tower, out_width, text_width, fields, "hidden_size")
}

/// What both generations of Qwen's towers have.
pub(super) fn common(family: &'static TowerFamily, fields: Fields<'_>) -> Result<Tower, TowerError> {
    // Files of the hub call it in_chans, which the class does not read.
    if fields.size("in_channels", Tower::CHANNELS)? != Tower::CHANNELS {
        return Err(fields.wrong("in_channels", "3: images are red, green and blue"));
    }
    Ok(Tower {
        root: family.root,
        depth: fields.size("depth", 32)?,
        heads: fields.size("num_heads", 16)?,
        patch_size: fields.size("patch_size", 14)?,
        temporal_patch_size: fields.size("temporal_patch_size", 2)?,
        merge_size: fields.size("spatial_merge_size", 2)?,
        norm_eps: 1e-6,
        rope_theta: 10_000.0,
        width: 0,
        intermediate: 0,
        out_width: 0,
        norm: Norm::Rms,
        feed_forward: FeedForward::GatedSilu,
        windows: None,
    })
}

/// The tower with its output's width, which must be the text model's.
pub(super) fn joined(
    tower: Tower,
    out_width: usize,
    text_width: usize,
    fields: Fields<'_>,
    name: &str,
) -> Result<Tower, TowerError> {
    if out_width != text_width {
        return Err(fields.wrong(name, format!("the text model's width, {text_width}")));
    }
    Ok(Tower { out_width, ..tower })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn read_json(json: Value) -> Result<Tower, String> {
        let family = TowerFamily::of("qwen2_vl").unwrap();
        family.read(json.as_object().unwrap(), 64).map_err(|error| error.to_string())
    }

    #[test]
    fn the_width_is_embed_dim_and_the_output_hidden_size() {
        let json =
            json!({"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 4, "in_chans": 3});
        let tower = read_json(json).unwrap();
        assert_eq!((tower.width, tower.out_width, tower.intermediate, tower.head_dim()), (32, 64, 128, 16));
        assert_eq!(tower.patch_numbers(), 3 * 2 * 14 * 14);
        let names: Vec<String> = tower.tensors().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 1 + 2 * (4 + 8) + 2 + 4);
        assert!(names.contains(&"model.visual.blocks.1.mlp.fc2.bias".to_owned()));
    }

    #[rstest]
    #[case(json!({"hidden_size": 65}), "field \"vision_config.hidden_size\": expected the text model's width, 64, found 65")]
    #[case(
        json!({"hidden_size": 64, "num_heads": 7}),
        "field \"vision_config.num_heads\": expected a divisor of the width 1280 that leaves heads of a multiple of 4, found 7"
    )]
    #[case(json!({"hidden_act": "gelu"}), "field \"vision_config.hidden_act\": expected \"quick_gelu\", found \"gelu\"")]
    #[case(json!({"depth": 0}), "field \"vision_config.depth\": expected a whole number from 1 to 1048576, found 0")]
    fn what_does_not_fit_is_refused_by_name(#[case] json: Value, #[case] expected: &str) {
        assert_eq!(read_json(json).unwrap_err(), expected);
    }
}
