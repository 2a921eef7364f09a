//! FP8 with one scale a weight, and a scale for activations beside it, as Ministral 3 is published.

use std::path::Path;

use collimate_hf::TensorSpec;
use collimate_weights::{Storage, WeightFiles};
use half::bf16;
use rstest::rstest;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use serde_json::json;

const WEIGHT: &str = "model.layers.0.mlp.down_proj.weight";
/// Of E4M3: 1, 2, -1, 448, 2⁻⁹ and 0.
const CODES: [u8; 6] = [0x38, 0x40, 0xb8, 0x7e, 0x01, 0x00];

/// A weight [2, 3] with a scale of this shape.
fn write(dir: &Path, scale: bf16, shape: &[usize]) {
    let scale = scale.to_le_bytes().repeat(shape.iter().product());
    let activations = 0.25_f32.to_le_bytes();
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    let module = WEIGHT.strip_suffix(".weight").unwrap();
    let tensors = [
        (WEIGHT.to_owned(), view(Dtype::F8_E4M3, &[2, 3], &CODES)),
        (format!("{module}.weight_scale_inv"), view(Dtype::BF16, shape, &scale)),
        (format!("{module}.activation_scale"), view(Dtype::F32, &[], &activations)),
    ];
    serialize_to_file(tensors, None, &dir.join("model.safetensors")).unwrap();
    let quantization = json!({
        "activation_scheme": "static", "dequantize": false, "quant_method": "fp8", "weight_block_size": null,
    });
    let config = json!({"model_type": "llama", "quantization_config": quantization});
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn every_number_is_its_code_times_the_scale() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), bf16::from_f32(0.5), &[]);
    let files = WeightFiles::open(dir.path()).unwrap();
    // The scale of activations is part of the weight, not a tensor that the model does not have.
    assert_eq!(files.check(&[TensorSpec::new(WEIGHT, &[2, 3])]).unwrap().num_ignored, 0);
    let expected = [0.5, 1.0, -0.5, 224.0, 0.5 / 512.0, 0.0];
    assert_eq!(files.read(WEIGHT).unwrap().data, expected);
    let packed = files.read_packed(WEIGHT, Some([2, 3]), Storage::Mapped).unwrap().unwrap();
    assert_eq!((packed.format().to_string(), packed.byte_count()), ("fp8".to_owned(), 6 + 4));
}

#[rstest]
#[case(1.0, &[1, 1], "expected shape [], found [1, 1]")]
#[case(f32::NAN, &[], "expected a finite number")]
#[case(1e38, &[], "weights would be infinite")]
fn another_scale_is_refused(#[case] scale: f32, #[case] shape: &[usize], #[case] expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), bf16::from_f32(scale), shape);
    let error = WeightFiles::open(dir.path()).unwrap().read(WEIGHT).unwrap_err().to_string();
    assert!(error.contains("down_proj.weight_scale_inv") && error.contains(expected), "{error}");
}
