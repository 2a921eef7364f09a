//! The weight files of a model: their names, the index of shards, and how tensors are divided among shards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use collimate_hf::{HfError, ShardError, read_json};
use serde_json::Value;

/// The file of a model that has only one.
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
/// The index, which maps tensors to shards.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// Most tensors in a file of weights, and in an index: more than any configuration that is read asks for, which is some
/// 400,000 (100,000 experts of three matrices, 10,000 layers of nine tensors).
pub(crate) const MAX_TENSORS: usize = 400_000;

/// Reads which shard holds each tensor. Every shard is a plain file name and exists beside the index.
pub(crate) fn read_index(index: &Path) -> Result<BTreeMap<String, String>, HfError> {
    let value = read_json(index)?;
    let wrong = |expected: &str, found: &Value| HfError::Field {
        path: index.to_owned(),
        field: "weight_map".to_owned(),
        expected: expected.to_owned(),
        found: found.to_string().chars().take(80).collect(),
    };
    let map = value.get("weight_map").unwrap_or(&Value::Null);
    let Some(map) = map.as_object().filter(|map| !map.is_empty()) else {
        return Err(wrong("an object of tensor and file names", map));
    };
    if map.len() > MAX_TENSORS {
        return Err(wrong(&format!("at most {MAX_TENSORS} tensors"), &map.len().into()));
    }
    let (mut shards, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for (tensor, shard) in map {
        let Some(shard) = shard.as_str() else {
            return Err(wrong("an object of tensor and file names", shard));
        };
        // Names of shards recur; each file is looked for once.
        if !seen.contains(shard) && !plain_name(shard) {
            return Err(ShardError::BadShardName { index: index.to_owned(), shard: shard.to_owned() }.into());
        }
        if seen.insert(shard) && !index.with_file_name(shard).is_file() {
            let (index, shard, tensor) = (index.to_owned(), shard.to_owned(), tensor.clone());
            return Err(ShardError::MissingShard { index, shard, tensor }.into());
        }
        shards.insert(tensor.clone(), shard.to_owned());
    }
    Ok(shards)
}

/// Whether a name is a plain file name, without folders, on any operating system.
fn plain_name(name: &str) -> bool {
    name.ends_with(".safetensors") && !name.starts_with('.') && !name.contains(['/', '\\', ':', '\0'])
}

/// The error for a folder with neither `model.safetensors` nor an index.
pub(crate) fn no_weights(dir: &Path) -> HfError {
    if !dir.is_dir() {
        let remedy = "expected a model folder with config.json and model.safetensors".to_owned();
        return HfError::MissingFile { path: dir.to_owned(), remedy };
    }
    if let Some(path) = pickle_in(dir) {
        return HfError::PickledWeights { path };
    }
    let hint = if dir.join("adapter_model.safetensors").is_file() {
        "; this is an adapter: give its base model as the model and this folder as the adapter"
    } else if has_weights(dir) {
        "; there are shards without their index"
    } else {
        ""
    };
    HfError::NoWeights { path: dir.to_owned(), hint: hint.to_owned() }
}

/// A file of the folder that holds pickled weights, well-known names first.
pub fn pickle_in(dir: &Path) -> Option<PathBuf> {
    const KNOWN: [&str; 4] = ["pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin", "model.bin"];
    let known = KNOWN.iter().map(|file| dir.join(file)).find(|path| path.is_file());
    let others = || {
        let files = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
        files.filter(|path| is_pickle(path) && path.is_file()).min()
    };
    known.or_else(others)
}

/// Whether a file is a Python pickle by its name; loading one can run code.
pub(crate) fn is_pickle(path: &Path) -> bool {
    const ENDINGS: [&str; 6] = ["bin", "pt", "pth", "ckpt", "pkl", "pickle"];
    // Trainers pickle their arguments beside many models; those are not weights.
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
        && !path.ends_with("training_args.bin")
}

/// Whether the folder holds a model's weights.
pub fn has_weights(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| is_weight_file(&entry.file_name().to_string_lossy()))
}

/// `model.safetensors`, its shards and its index.
pub(crate) fn is_weight_file(name: &str) -> bool {
    name == INDEX_FILE || (name.starts_with("model") && name.ends_with(".safetensors"))
}

/// Divides tensors, in order, into shards of at most `max_bytes`; a larger tensor gets a shard of its own.
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

/// The file name of shard `number` of `count`, counted from 1; a single shard is `model.safetensors`.
pub(crate) fn file_name(number: usize, count: usize) -> String {
    if count == 1 { SINGLE_FILE.to_owned() } else { format!("model-{number:05}-of-{count:05}.safetensors") }
}
