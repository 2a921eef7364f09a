//! Gemma 3, whose layers with windows have a rotation of their own.

use std::path::Path;

use collimate_hf::{ModelConfig, RopeScaling, WindowRope};
use rstest::rstest;
use serde_json::{Value, json};

fn read(fields: Value) -> Result<ModelConfig, String> {
    let mut value = json!({
        "model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 7, "vocab_size": 90, "sliding_window": 16,
    });
    fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
    ModelConfig::from_json(Path::new("config.json"), value).map_err(|error| error.to_string())
}

#[test]
fn old_and_new_files_of_one_model_are_the_same() {
    let old = json!({
        "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "sliding_window_pattern": 3,
    });
    let [full, window] = ["full_attention", "sliding_attention"];
    let new = json!({
        "rope_parameters": {
            full: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            window: {"rope_type": "default", "rope_theta": 1e4},
        },
        "layer_types": [window, window, full, window, window, full, window],
    });
    for config in [read(old).unwrap(), read(new).unwrap()] {
        assert_eq!((config.rope_theta, config.rope_scaling), (1e6, RopeScaling::Linear { factor: 8.0 }));
        assert_eq!(config.window_rope, Some(WindowRope { theta: 1e4, scaling: RopeScaling::Default }));
        let windows = [16, 16, 0, 16, 16, 0, 16].map(|window| Some(window).filter(|window| *window > 0));
        assert_eq!(config.layer_windows, windows);
    }
    let silent = read(json!({})).unwrap();
    assert_eq!((silent.rope_theta, silent.rope_scaling), (1e6, RopeScaling::Default));
    assert_eq!(silent.window_rope.map(|rope| rope.theta), Some(1e4));
    assert_eq!(silent.layer_windows[4..], [Some(16), None, Some(16)]);
    assert_eq!((silent.head_dim, silent.attention_scale, silent.embedding_scale), (256, 1.0 / 16.0, Some(8.0)));
    assert_eq!((silent.attention_softcap, silent.logit_softcap), (None, None));
}

#[test]
fn one_rotation_for_all_layers_is_kept_once() {
    let both = json!({"rope_theta": 1e4, "rope_type": "default"});
    let fields = json!({ "rope_parameters": {"full_attention": both, "sliding_attention": both} });
    assert_eq!(read(fields).unwrap().window_rope, None);
}

#[rstest]
#[case(json!({ "rope_parameters": {"rope_type": "default", "rope_theta": 1e4} }), "rope_parameters.rope_type")]
#[case(json!({ "rope_parameters": {"full_attention": {"rope_theta": 0}} }), "rope_parameters.full_attention.rope_theta")]
#[case(json!({ "rope_parameters": {"sliding_attention": {"rope_theta": "x"}} }), "rope_parameters.sliding_attention.rope_theta")]
#[case(json!({ "rope_local_base_freq": -1 }), "rope_local_base_freq")]
#[case(json!({ "sliding_window": null }), "sliding_window")]
#[case(json!({ "use_bidirectional_attention": true }), "use_bidirectional_attention")]
fn a_wrong_field_is_named(#[case] fields: Value, #[case] field: &str) {
    let error = read(fields).unwrap_err();
    assert!(error.starts_with(&format!("config.json: field \"{field}\": ")), "{error}");
}
