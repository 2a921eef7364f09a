//! The files that a model's weights lie in: names, the index of shards, and how tensors are divided among shards.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::read_json;
use crate::error::ModelError;

/// All weights in one file.
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
/// Which shard holds which tensor.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The shard of each tensor, by the index; every shard is a plain file name and a file beside the index.
pub(crate) fn read_index(index: &Path) -> Result<BTreeMap<String, String>, ModelError> {
    let value = read_json(index)?;
    let wrong = |expected: &str, found: &Value| ModelError::Field {
        path: index.to_owned(),
        field: "weight_map".to_owned(),
        expected: expected.to_owned(),
        found: found.to_string().chars().take(80).collect(),
    };
    let map = value.get("weight_map").unwrap_or(&Value::Null);
    let Some(map) = map.as_object().filter(|map| !map.is_empty()) else {
        return Err(wrong("an object of tensor and file names", map));
    };
    let mut shards = BTreeMap::new();
    for (tensor, shard) in map {
        let Some(shard) = shard.as_str() else {
            return Err(wrong("an object of tensor and file names", shard));
        };
        if !plain_name(shard) {
            return Err(ModelError::BadShardName { index: index.to_owned(), shard: shard.to_owned() });
        }
        if !index.with_file_name(shard).is_file() {
            let (index, shard, tensor) = (index.to_owned(), shard.to_owned(), tensor.clone());
            return Err(ModelError::MissingShard { index, shard, tensor });
        }
        shards.insert(tensor.clone(), shard.to_owned());
    }
    Ok(shards)
}

/// A name without any folder in it, on any system.
fn plain_name(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

/// Why a folder without model.safetensors and index has no weights to read.
pub(crate) fn no_weights(dir: &Path) -> ModelError {
    if !dir.is_dir() {
        let remedy = "expected a model folder with config.json and model.safetensors".to_owned();
        return ModelError::MissingFile { path: dir.to_owned(), remedy };
    }
    if let Some(path) = pickle_in(dir) {
        return ModelError::PickledWeights { path };
    }
    let hint = if dir.join("adapter_model.safetensors").is_file() {
        "; this is an adapter: give its base model as the model and this folder as the adapter"
    } else if has_weights(dir) {
        "; there are shards without their index"
    } else {
        ""
    };
    ModelError::NoWeights { path: dir.to_owned(), hint: hint.to_owned() }
}

/// The first file of a folder, by name, that holds pickled weights, the well-known ones first.
pub(crate) fn pickle_in(dir: &Path) -> Option<PathBuf> {
    const KNOWN: [&str; 4] = ["pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin", "model.bin"];
    let known = KNOWN.iter().map(|file| dir.join(file)).find(|path| path.is_file());
    let others = || {
        let files = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
        files.filter(|path| is_pickle(path) && path.is_file()).min()
    };
    known.or_else(others)
}

/// Whether a name is that of a file which Python unpickles: what is in it runs when it is loaded.
pub(crate) fn is_pickle(path: &Path) -> bool {
    const ENDINGS: [&str; 6] = ["bin", "pt", "pth", "ckpt", "pkl", "pickle"];
    // Arguments of a trainer are pickled beside many models and are no weights.
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
        && !path.ends_with("training_args.bin")
}

/// Whether the folder holds a file that looks like a model's weights.
pub(crate) fn has_weights(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| is_weight_file(&entry.file_name().to_string_lossy()))
}

/// `model.safetensors`, its shards and its index.
pub(crate) fn is_weight_file(name: &str) -> bool {
    name == INDEX_FILE || (name.starts_with("model") && name.ends_with(".safetensors"))
}

/// Divides tensors, in their order, into shards of at most `max_bytes`; a larger tensor has a shard of its own.
pub(crate) fn divide(sizes: &[usize], max_bytes: usize) -> Vec<Range<usize>> {
    let mut shards = Vec::new();
    let (mut start, mut filled) = (0, 0_usize);
    for (number, size) in sizes.iter().enumerate() {
        if number > start && filled.saturating_add(*size) > max_bytes {
            shards.push(start..number);
            (start, filled) = (number, 0);
        }
        filled = filled.saturating_add(*size);
    }
    shards.push(start..sizes.len());
    shards
}

/// The file of shard `number` of `count`, both counted from 1; one alone is `model.safetensors`.
pub(crate) fn file_name(number: usize, count: usize) -> String {
    if count == 1 { SINGLE_FILE.to_owned() } else { format!("model-{number:05}-of-{count:05}.safetensors") }
}
