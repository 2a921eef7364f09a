//! A run over packed weights is, bit for bit, the run over the numbers that they stand for.

use std::path::Path;

use collimate_chaos::compare::training_differences;
use collimate_oracle::golden_dir;
use rstest::rstest;

use super::{FORMATS, golden_data, write_both};
use crate::harness::{Folder, backend, succeed, train};

const SETTINGS: [&str; 10] = [
    "use_peft=true",
    "lora_r=4",
    "lora_dropout=0.1",
    "max_steps=3",
    "per_device_train_batch_size=2",
    "gradient_accumulation_steps=2",
    "learning_rate=4e-3",
    "gradient_checkpointing=true",
    "sample_prompts=0",
    "eval_fraction=0.2",
];

/// Trains an adapter on a model and returns the run's folder.
fn run(folder: &Folder, name: &str, model: &Path, more: &[&str]) -> std::path::PathBuf {
    let data = golden_data();
    let (model, output) = (model.display().to_string(), folder.arg(name));
    succeed(&train(&model, &data, &output, &[&SETTINGS[..], more].concat()));
    folder.path(name)
}

#[track_caller]
fn assert_same(expected: &Path, found: &Path) {
    assert_eq!(training_differences(expected, found).expect("two runs"), Vec::<String>::new());
}

#[rstest]
fn a_run_over_packed_weights_is_the_run_over_unpacked_ones(
    #[values("llama", "mixtral", "gemma2")] family: &str,
    #[values(0, 1, 2, 3, 4, 5, 6)] format: usize,
) {
    // Other backends unpack on the device, in an order of their own.
    if backend() != "flex" {
        return;
    }
    let (folder, format) = (Folder::new(), FORMATS[format]);
    let plain = golden_dir().join(format!("models/{family}.quantized"));
    let (packed, unpacked) = (folder.path("packed"), folder.path("unpacked"));
    write_both(&plain, format, &packed, &unpacked);
    let expected = run(&folder, "expected", &unpacked, &[]);
    assert_same(&expected, &run(&folder, "resident", &packed, &["weights=resident"]));
    assert_same(&expected, &run(&folder, "mapped", &packed, &["weights=mapped"]));
    assert_same(&expected, &run(&folder, "plain-mapped", &unpacked, &["weights=mapped"]));
    if ["nf4", "nf4-double", "int8"].contains(&format) {
        let quantization = format!("quantization={format}");
        assert_same(&expected, &run(&folder, "at-load", &plain, &[&quantization]));
        let unlike = run(&folder, "plain", &plain, &[]);
        assert!(!training_differences(&expected, &unlike).expect("two runs").is_empty(), "packing changed nothing");
    }
}
