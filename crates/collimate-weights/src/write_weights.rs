//! Writes safetensors files that appear complete or not at all, from tensors in any order, one in memory at a time.

mod layout;
mod tensor_file;
use std::path::Path;

use collimate_files::{ShardSize, WriteError, write_atomically};
use collimate_hf::{HfError, HostTensor, ModelConfig, TensorSpec};
use serde_json::{Map, Value, json};

use self::layout::{Layout, Whole};
use self::tensor_file::TensorFile;
use crate::shards;
use crate::stacked::StoredTensor;
use crate::storage_dtype::StorageDtype;
use crate::weights::WeightFiles;

/// Writes tensors to one safetensors file, in the given order, with the metadata `{"format": "pt"}`.
///
/// The file appears complete or not at all: it is written under a temporary name, synced and renamed.
///
/// # Errors
/// [`HfError`] if the file cannot be written, a name is given twice, or a value is not finite in `dtype`.
pub fn write_safetensors(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, HostTensor)>,
    dtype: StorageDtype,
) -> Result<(), HfError> {
    let tensors: Vec<_> = tensors.into_iter().collect();
    let specs: Vec<_> = tensors.iter().map(|(name, tensor)| TensorSpec::new(name, &tensor.shape)).collect();
    write_safetensors_of(path, &specs, tensors, dtype)
}

/// Like [`write_safetensors`], with the shapes given first, so that only one tensor needs to be in memory.
///
/// # Errors
/// Those of [`write_safetensors`]; also if a tensor is missing, unexpected or misshapen.
pub fn write_safetensors_of(
    path: &Path,
    specs: &[TensorSpec],
    tensors: impl IntoIterator<Item = (String, HostTensor)>,
    dtype: StorageDtype,
) -> Result<(), HfError> {
    let stored: Vec<_> = specs.iter().cloned().map(|spec| StoredTensor::whole(spec, dtype)).collect();
    let mut file = TensorFile::create(path, &stored, &[])?;
    for (name, tensor) in tensors {
        file.put(&name, &tensor)?;
    }
    file.finish()
}

/// Writes a model: its weights, with an index if they do not fit into one shard, and then its `config.json`.
///
/// Tensors may arrive in any order and are written as they arrive, so that only one needs to be in memory.
/// `config.json` is the model's own, with the new dtype.
///
/// # Errors
/// [`HfError`] if a tensor is missing, unexpected, given twice, misshapen or not finite in `dtype`; if the folder holds
/// weights in other files, which would mix two models; if a file cannot be written.
pub fn write_model(
    dir: &Path,
    config: &ModelConfig,
    tensors: impl IntoIterator<Item = (String, HostTensor)>,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), HfError> {
    write(dir, Whole { config, base: None }, tensors.into_iter().map(Ok), dtype, max_shard_size)
}

/// Like [`write_model`], for a model that was read from a folder: names are those of its files, and what stands beside a text
/// model there is written again, byte for byte. Its tensors may fail to be read.
///
/// # Errors
/// As [`write_model`]; also the first error of a tensor.
pub fn write_model_like(
    dir: &Path,
    config: &ModelConfig,
    base: &WeightFiles,
    tensors: impl IntoIterator<Item = Result<(String, HostTensor), HfError>>,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), HfError> {
    write(dir, Whole { config, base: Some(base) }, tensors.into_iter(), dtype, max_shard_size)
}

/// [`write_model`] and [`write_model_like`].
fn write(
    dir: &Path,
    whole: Whole<'_>,
    tensors: impl Iterator<Item = Result<(String, HostTensor), HfError>>,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), HfError> {
    std::fs::create_dir_all(dir).map_err(WriteError::at(dir))?;
    let layout = whole.layout(dtype, max_shard_size);
    no_other_weights(dir, &layout.names)?;
    let mut files = layout.create(dir)?;
    let shard_of = layout.parameter_shards();
    for tensor in tensors {
        let (name, tensor) = tensor?;
        let stored = whole.stored_name(&name);
        let Some(number) = shard_of.get(stored.as_str()) else {
            return Err(HfError::UnexpectedTensor { path: dir.to_owned(), tensor: name, num_unexpected: 1 });
        };
        files[*number].put(&stored, &tensor)?;
    }
    // Nothing is renamed before everything is complete.
    files.iter().try_for_each(TensorFile::complete)?;
    files.into_iter().try_for_each(TensorFile::finish)?;
    if layout.names.len() > 1 {
        write_index(dir, &layout)?;
    }
    let text = serde_json::to_string_pretty(&whole.config.raw_with_dtype(dtype.name())).unwrap_or_default() + "\n";
    Ok(write_atomically(&dir.join("config.json"), text.as_bytes())?)
}

/// Checks that [`write_model_like`] can write there, before there is anything to write.
///
/// # Errors
/// The folder holds weights that are not overwritten, or another folder is where a file should be.
pub fn check_output(
    dir: &Path,
    config: &ModelConfig,
    base: Option<&WeightFiles>,
    dtype: StorageDtype,
    max_shard_size: ShardSize,
) -> Result<(), HfError> {
    if !dir.is_dir() {
        return Ok(());
    }
    let names = Whole { config, base }.layout(dtype, max_shard_size).names;
    no_other_weights(dir, &names)?;
    let taken = names.iter().map(|name| dir.join(name)).find(|path| path.is_dir());
    match taken {
        Some(path) => Err(HfError::NotAFile { path }),
        None => Ok(()),
    }
}

fn write_index(dir: &Path, layout: &Layout<'_>) -> Result<(), HfError> {
    let shard_of = layout.shards().into_iter();
    let weight_map: Map<String, Value> =
        shard_of.map(|(name, number)| (name.to_owned(), json!(layout.names[number]))).collect();
    let index = json!({
        "metadata": { "total_parameters": layout.num_parameters(), "total_size": layout.num_bytes },
        "weight_map": weight_map,
    });
    Ok(write_atomically(&dir.join(shards::INDEX_FILE), format!("{index:#}\n").as_bytes())?)
}

/// Rejects a folder with weights in files that will not be overwritten: it would hold parts of two models.
fn no_other_weights(dir: &Path, names: &[String]) -> Result<(), HfError> {
    for entry in std::fs::read_dir(dir).map_err(HfError::io(dir))? {
        let name = entry.map_err(HfError::io(dir))?.file_name().to_string_lossy().into_owned();
        let ours = names.contains(&name) || (name == shards::INDEX_FILE && names.len() > 1);
        if shards::is_weight_file(&name) && !ours {
            let reason =
                format!("it holds \"{name}\", which is not part of this model; remove it or choose another folder");
            return Err(HfError::OutputTaken { path: dir.to_owned(), reason });
        }
    }
    Ok(())
}
