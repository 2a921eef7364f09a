//! Models with packed weights: folders in every format, made from a model of plain weights, and the same folders unpacked.

mod bits;
mod formats;
mod place;
mod verbs;

use std::fs;
use std::path::Path;

use collimate_files::ShardSize;
use collimate_hf::HostTensor;
use collimate_oracle::{StoredTensor, safetensors_file};
use collimate_weights::{StorageDtype, WeightFiles, copy_side_files, read_config, write_model};
use serde_json::Value;

pub(crate) use formats::FORMATS;
use formats::{packed, quantization_config};

/// The rows from which golden values were made.
pub(crate) fn golden_data() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/data.jsonl").display().to_string()
}

/// Tensors of a model whose blocks' linear layers are packed in a format, as its files have them.
pub(crate) fn packed_tensors(model: &Path, format: &str) -> Vec<StoredTensor> {
    let config = read_config(model).expect("a configuration");
    let weights = WeightFiles::open(model).expect("weights");
    let packable = config.packable_weights();
    assert!(packable.len() >= 7 * config.num_hidden_layers, "{packable:?}");
    let tensors = config.tensors().into_iter().flat_map(|spec| {
        let tensor = weights.read(&spec.name).expect("a tensor");
        match packable.contains(&spec.name) {
            true => packed(&spec.name, &tensor, format),
            false => vec![plain(&spec.name, &tensor)],
        }
    });
    tensors.collect()
}

/// Writes a model of these tensors in a format, with the other files of `model`.
pub(crate) fn write_packed(model: &Path, to: &Path, format: &str, tensors: &[StoredTensor]) {
    copy_side_files(model, to).expect("files of the tokenizer");
    fs::write(to.join("model.safetensors"), safetensors_file(tensors)).expect("weights");
    let config = fs::read_to_string(model.join("config.json")).expect("a configuration");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    config["quantization_config"] = quantization_config(format);
    fs::write(to.join("config.json"), config.to_string()).expect("a configuration");
}

/// Packs a model into a folder, and unpacks that into another one.
pub(crate) fn write_both(model: &Path, format: &str, packed: &Path, unpacked: &Path) {
    write_packed(model, packed, format, &packed_tensors(model, format));
    let config = read_config(packed).expect("a configuration");
    let weights = WeightFiles::open(packed).expect("weights");
    let tensors =
        config.tensors().into_iter().map(|spec| (spec.name.clone(), weights.read(&spec.name).expect("a tensor")));
    copy_side_files(model, unpacked).expect("files of the tokenizer");
    write_model(unpacked, &config.unpacked(), tensors, StorageDtype::F32, ShardSize::default()).expect("a model");
}

/// A tensor of plain float32.
fn plain(name: &str, tensor: &HostTensor) -> StoredTensor {
    let bytes = tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    StoredTensor { name: name.to_owned(), dtype: "F32".to_owned(), shape: tensor.shape.clone(), bytes }
}
