//! OLMo 3: OLMo 2 with windows over three of four layers, which are rotated without scaling.

use super::olmo2;
use crate::config::{Defaults, Family, GgufFamily, GgufRefusal, ModelConfig};
use crate::error::HfError;
use crate::fields::Fields;
use crate::rope::{RopeScaling, WindowRope};
use crate::{layers, window_rope};

/// Layers from one without a window to the next.
const INTERVAL: usize = 4;
const THETA: f64 = 500_000.0;

pub(super) const FAMILY: Family = Family {
    model_type: "olmo3",
    summary: "`olmo2` with windows over three of four layers, and rotation scaled in the others only",
    // llama.cpp tells the two apart by the window.
    gguf: Some(GgufFamily { windows: true, refusal, ..olmo2::GGUF }),
    defaults: Defaults { rope_theta: THETA, sliding_window: Some(4096), ..olmo2::DEFAULTS },
    rope_object: window_rope::of_full_layers,
    windows,
    read: |fields, config| {
        // A `rope_theta` beside the objects is about the other layers alone, as in transformers.
        config.window_rope = window_rope::of_window_layers(fields, config, None, THETA)?;
        Ok(())
    },
    ..olmo2::FAMILY
};

/// All but every fourth layer.
fn windows(fields: Fields<'_>, default: Option<usize>, num_layers: usize) -> Result<Vec<Option<usize>>, HfError> {
    let window = layers::window(fields, default)?;
    if window.is_none() && fields.get("layer_types").is_none() {
        return Err(fields.wrong("sliding_window", "a number of tokens, since most layers have a window"));
    }
    layers::by_layer(fields, window, num_layers, |layer| !(layer + 1).is_multiple_of(INTERVAL))
}

fn refusal(config: &ModelConfig) -> Option<GgufRefusal> {
    let is_windowed =
        |(layer, window): (usize, &Option<usize>)| window.is_some() != (layer + 1).is_multiple_of(INTERVAL);
    let refused = |field, instead| Some(GgufRefusal { field, instead });
    let unscaled = WindowRope { theta: config.rope_theta, scaling: RopeScaling::Default };
    if !config.layer_windows.iter().enumerate().all(is_windowed) {
        return refused("layer_types", "every layer but every fourth has a window");
    }
    let is_scaled_alike = config.window_rope.is_none() && config.rope_scaling != RopeScaling::Default;
    if is_scaled_alike || config.window_rope.as_ref().is_some_and(|rope| *rope != unscaled) {
        return refused(
            "rope_parameters.sliding_attention",
            "layers with a window are rotated by the same base, unscaled",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn read(fields: Value) -> ModelConfig {
        let mut value = json!({
            "model_type": "olmo3", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 5, "vocab_size": 90,
            "sliding_window": 16,
        });
        fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
        ModelConfig::from_json(Path::new("config.json"), value).unwrap()
    }

    #[test]
    fn old_and_new_files_scale_layers_without_a_window_only() {
        let yarn = json!({
            "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192, "attention_factor": 1.2079441541679836,
            "beta_fast": 32, "beta_slow": 1,
        });
        let mut newer = yarn.clone();
        newer["rope_theta"] = json!(5e5);
        let old = read(json!({ "rope_theta": 500000, "rope_scaling": yarn }));
        let new = read(json!({
            "rope_parameters": {
                "full_attention": newer, "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
            },
        }));
        for config in [&old, &new] {
            assert!(matches!(config.rope_scaling, RopeScaling::Yarn { factor: 8.0, .. }));
            assert_eq!(config.window_rope, Some(WindowRope { theta: 5e5, scaling: RopeScaling::Default }));
            assert_eq!(config.layer_windows, [Some(16), Some(16), Some(16), None, Some(16)]);
            assert_eq!(refusal(config), None);
        }
        assert_eq!(old.rope_scaling, new.rope_scaling);
    }

    #[test]
    fn a_file_that_is_silent_about_rotation_has_one() {
        let config = read(json!({}));
        assert_eq!((config.rope_theta, config.rope_scaling, config.window_rope), (5e5, RopeScaling::Default, None));
    }

    #[test]
    fn llama_cpp_has_windows_over_three_of_four_layers() {
        let field = |fields| refusal(&read(fields)).map(|refusal| refusal.field);
        let [full, window] = ["full_attention", "sliding_attention"];
        assert_eq!(field(json!({ "layer_types": [full, window, window, window, full] })), Some("layer_types"));
        let bases = json!({ "rope_parameters": {full: {"rope_theta": 1e4}, window: {"rope_theta": 2e4}} });
        assert_eq!(field(bases), Some("rope_parameters.sliding_attention"));
    }
}
