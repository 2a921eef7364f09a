//! Qwen2.5-VL: RMSNorm, a gated layer, windows in all but a few blocks.

use super::TowerFamily;
use super::qwen2_vl::{common, joined};
use crate::fields::{Fields, TowerError};
use crate::tower::{Tower, Windows};

pub(super) const FAMILY: TowerFamily =
    TowerFamily { model_type: "qwen2_5_vl", image_token: 151_655, root: "model.visual", read };

fn read(family: &'static TowerFamily, fields: Fields<'_>, text_width: usize) -> Result<Tower, TowerError> {
    fields.only("hidden_act", "silu")?;
    let tower = common(family, fields)?;
    let side = fields.size("window_size", 112)? / tower.merge_size / tower.patch_size;
    if side == 0 {
        return Err(fields.wrong("window_size", format!("at least {}", tower.merge_size * tower.patch_size)));
    }
    let full_blocks = fields.blocks("fullatt_block_indexes", &[7, 15, 23, 31])?;
    let tower = Tower {
        width: fields.size("hidden_size", 3584)?,
        intermediate: fields.size("intermediate_size", 3420)?,
        windows: Some(Windows { side, full_blocks }),
        ..tower
    };
    let out_width = fields.size("out_hidden_size", 3584)?;
    joined(tower, out_width, text_width, fields, "out_hidden_size")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tower::{FeedForward, Norm};

    #[test]
    fn windows_are_counted_in_merged_tokens() {
        let json = json!({
            "depth": 3, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 56,
            "window_size": 84, "fullatt_block_indexes": [1]
        });
        let tower = TowerFamily::of("qwen2_5_vl").unwrap().read(json.as_object().unwrap(), 64).unwrap();
        assert_eq!(tower.windows, Some(Windows { side: 3, full_blocks: vec![1] }));
        assert_eq!((tower.norm, tower.feed_forward), (Norm::Rms, FeedForward::GatedSilu));
        let names: Vec<String> = tower.tensors().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 1 + 3 * (2 + 10) + 1 + 4);
        let too_small = json!({"window_size": 27});
        let error = TowerFamily::of("qwen2_5_vl").unwrap().read(too_small.as_object().unwrap(), 3584).unwrap_err();
        assert_eq!(error.field, "window_size");
    }
}
