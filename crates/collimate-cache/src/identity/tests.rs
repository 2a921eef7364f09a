//! When two models or adapters count as the same.

use std::fs;

use collimate_hf::HostTensor;
use collimate_weights::{StorageDtype, write_safetensors};
use tempfile::TempDir;

use super::*;

/// A model's or an adapter's folder with one small tensor.
fn weights(folder: &Path, file: &str, value: f32) {
    let tensors = [("w".to_owned(), HostTensor::new([2], vec![1.0, value]))];
    write_safetensors(&folder.join(file), tensors, StorageDtype::F32).expect("weights");
}

fn model_hash(value: f32, config: &str) -> Hash {
    let folder = TempDir::new().expect("a folder");
    weights(folder.path(), "model.safetensors", value);
    fs::write(folder.path().join("config.json"), config).expect("a file");
    Identity::of_model(folder.path()).expect("a model").hash
}

fn adapter_hash(value: f32, config: &str) -> Hash {
    let folder = TempDir::new().expect("a folder");
    weights(folder.path(), "adapter_model.safetensors", value);
    fs::write(folder.path().join("adapter_config.json"), config).expect("a file");
    Identity::of_adapter(folder.path()).expect("an adapter").hash
}

#[test]
fn a_model_is_its_weights_and_the_settings_that_affect_numbers() {
    let model = model_hash(2.0, r#"{"rope_theta": 1e4, "rms_norm_eps": 1e-5, "torch_dtype": "float32"}"#);
    let moved = r#"{"torch_dtype": "bfloat16", "transformers_version": "5", "rms_norm_eps": 1e-5, "rope_theta": 1e4}"#;
    assert_eq!(model, model_hash(2.0, moved));
    assert_ne!(model, model_hash(2.0, r#"{"rope_theta": 1e5, "rms_norm_eps": 1e-5}"#));
    assert_ne!(model, model_hash(2.0, r#"{"rope_theta": 1e4, "rms_norm_eps": 1e-5, "unheard_of": 1}"#));
    // The next float32 number differs in one bit of one byte.
    let other = f32::from_bits(2.0_f32.to_bits() + 1);
    assert_ne!(model, model_hash(other, r#"{"rope_theta": 1e4, "rms_norm_eps": 1e-5}"#));
}

#[test]
fn how_images_and_token_maps_become_inputs_is_a_part_of_a_model() {
    let folder = TempDir::new().expect("a folder");
    weights(folder.path(), "model.safetensors", 2.0);
    fs::write(folder.path().join("config.json"), "{}").expect("a file");
    let hash = || Identity::of_model(folder.path()).expect("a model").hash;
    let mut seen = vec![hash()];
    for (file, text) in [
        ("preprocessor_config.json", r#"{"image_mean": [0.5, 0.5, 0.5]}"#),
        ("preprocessor_config.json", r#"{"image_mean": [0.4, 0.5, 0.5]}"#),
        ("processor_config.json", r#"{"image_processor": {}}"#),
        (CODEBOOK_FILE, "a table"),
        (CODEBOOK_FILE, "another one"),
        // Nothing is computed with it.
        ("chat_template.jinja", "{{ messages }}"),
    ] {
        fs::write(folder.path().join(file), text).expect("a file");
        let now = hash();
        assert_eq!(seen.contains(&now), file == "chat_template.jinja", "{file}: {text}");
        seen.push(now);
    }
}

#[test]
fn an_adapter_is_its_matrices_and_its_scale() {
    let adapter =
        adapter_hash(2.0, r#"{"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "base_model_name_or_path": "a"}"#);
    assert_eq!(adapter, adapter_hash(2.0, r#"{"base_model_name_or_path": "b", "lora_alpha": 16, "r": 8}"#));
    assert_ne!(adapter, adapter_hash(2.0, r#"{"r": 8, "lora_alpha": 32}"#));
    assert_ne!(adapter, adapter_hash(2.0, r#"{"r": 8, "lora_alpha": 16, "use_rslora": true}"#));
    assert_ne!(adapter, adapter_hash(2.5, r#"{"r": 8, "lora_alpha": 16}"#));
}
