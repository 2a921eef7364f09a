//! Merges a LoRA adapter into its base model's files, one tensor at a time.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use collimate_files::{ShardSize, WriteError, write_atomically};
use rayon::prelude::*;

use crate::config::ModelConfig;
use crate::error::HfError;
use crate::peft::Adapter;
use crate::plain_file::stays_in;
use crate::shards;
use crate::weights::{HostTensor, WeightFiles};
use crate::write_weights::{StorageDtype, try_write_model};

/// Files that a merged model inherits from its base.
const SIDE_FILES: [&str; 10] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// How a merged model is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeOptions {
    /// The storage type; by default the base model's, or float32 if that has several.
    pub dtype: Option<StorageDtype>,
    /// Maximum bytes of one file; larger weights are divided into shards with an index.
    pub max_shard_size: ShardSize,
}

/// The result of [`merge_adapter`].
#[derive(Debug, Clone, PartialEq)]
pub struct MergeSummary {
    /// Tensors written.
    pub num_tensors: usize,
    /// Tensors that the adapter changed.
    pub num_merged: usize,
    /// The factor on `B A`.
    pub scale: f64,
    /// The storage type.
    pub dtype: StorageDtype,
    /// Largest absolute change of a weight, before rounding to that type.
    pub largest_change: f32,
    /// Files copied from the base model.
    pub copied: Vec<PathBuf>,
}

/// Writes the model with the adapter merged into its weights: `W + s · B A`, computed in float32.
///
/// Tokenizer files and `generation_config.json` are copied from the base model. The first and the last changed tensor are
/// read back and compared. One tensor is in memory at a time.
///
/// # Errors
/// [`HfError`] if model or adapter cannot be read or do not fit together; if `output_dir` is one of their folders,
/// already holds weights or cannot be written.
pub fn merge_adapter(
    model_dir: &Path,
    adapter_dir: &Path,
    output_dir: &Path,
    options: MergeOptions,
) -> Result<MergeSummary, HfError> {
    let config = ModelConfig::from_dir(model_dir)?;
    let weights = WeightFiles::open(model_dir)?;
    let specs = config.tensors();
    weights.check(&specs)?;
    let adapter = Adapter::read(adapter_dir, &config)?;
    output_is_free(output_dir, [model_dir, adapter_dir])?;
    // A link out of the folder must be refused before anything is written.
    side_files(model_dir)?;
    let dtype = options.dtype.unwrap_or_else(|| {
        let stored = |name: &str| weights.dtype(name).and_then(StorageDtype::from_stored);
        let first = stored(&specs[0].name).unwrap_or(StorageDtype::F32);
        if specs.iter().all(|spec| stored(&spec.name) == Some(first)) { first } else { StorageDtype::F32 }
    });
    let mut largest_change = 0.0_f32;
    let tensors = specs.iter().map(|spec| {
        let (tensor, change) = merged_tensor(&weights, &adapter, &spec.name)?;
        largest_change = largest_change.max(change);
        Ok((spec.name.clone(), tensor))
    });
    try_write_model(output_dir, &config, tensors, dtype, options.max_shard_size)?;
    let copied = copy_side_files(model_dir, output_dir)?;
    read_back(output_dir, &weights, &adapter, dtype)?;
    Ok(MergeSummary {
        num_tensors: specs.len(),
        num_merged: adapter.modules.len(),
        scale: adapter.config.scale(),
        dtype,
        largest_change,
        copied,
    })
}

/// Copies tokenizer files, chat template and `generation_config.json` of a model folder, if they exist.
///
/// # Errors
/// [`HfError::Io`] or [`HfError::Write`] naming the file that could not be copied; [`HfError::LinkOutside`] if one links
/// out of the folder, since the copy would then contain a private file.
pub fn copy_side_files(from: &Path, to: &Path) -> Result<Vec<PathBuf>, HfError> {
    let sources = side_files(from)?;
    fs::create_dir_all(to).map_err(WriteError::of(to))?;
    let mut copied = Vec::new();
    for (name, source) in sources {
        let bytes = fs::read(&source).map_err(HfError::io(&source))?;
        write_atomically(&to.join(name), &bytes)?;
        copied.push(to.join(name));
    }
    Ok(copied)
}

/// Tokenizer files, chat template and `generation_config.json` of a folder, if they exist.
///
/// # Errors
/// [`HfError::LinkOutside`] naming the first that links out of the folder.
pub fn side_files(from: &Path) -> Result<Vec<(&'static str, PathBuf)>, HfError> {
    let files = SIDE_FILES.into_iter().map(|name| (name, from.join(name))).filter(|(_, source)| source.is_file());
    let files: Vec<_> = files.collect();
    match files.iter().find(|(_, source)| !stays_in(from, source)) {
        Some((_, outside)) => Err(HfError::LinkOutside { path: outside.clone() }),
        None => Ok(files),
    }
}

/// Reads one tensor of the merged model; also returns the largest absolute change in it.
///
/// # Errors
/// Those of [`WeightFiles::read`].
pub fn merged_tensor(weights: &WeightFiles, adapter: &Adapter, name: &str) -> Result<(HostTensor, f32), HfError> {
    let mut tensor = weights.read(name)?;
    let module = name.strip_suffix(".weight").and_then(|module| adapter.modules.get(module));
    let change = module.map_or(0.0, |(a, b)| add_product(&mut tensor, a, b, adapter.config.scale() as f32));
    Ok((tensor, change))
}

/// `weight += scale · B A`; returns the largest absolute change.
///
/// # Shapes
/// weight [out, in], A [r, in], B [out, r].
fn add_product(weight: &mut HostTensor, a: &HostTensor, b: &HostTensor, scale: f32) -> f32 {
    let (r, width) = (a.shape[0], a.shape[1]);
    let rows = weight.data.par_chunks_mut(width).zip(b.data.par_chunks(r));
    let changes = rows.map(|(row, b_row)| {
        let mut change = vec![0.0_f32; width];
        for (factor, a_row) in b_row.iter().zip(a.data.chunks_exact(width)) {
            change.iter_mut().zip(a_row).for_each(|(sum, x)| *sum += factor * x);
        }
        row.iter_mut().zip(change).fold(0.0_f32, |largest, (weight, change)| {
            let change = scale * change;
            *weight += change;
            largest.max(change.abs())
        })
    });
    changes.reduce(|| 0.0, f32::max)
}

fn output_is_free(output: &Path, sources: [&Path; 2]) -> Result<(), HfError> {
    let taken = |reason: &str| HfError::OutputTaken { path: output.to_owned(), reason: reason.to_owned() };
    let Ok(output_dir) = output.canonicalize() else { return Ok(()) };
    if sources.iter().any(|source| source.canonicalize().is_ok_and(|source| source == output_dir)) {
        return Err(taken("it is the folder of the model or of the adapter"));
    }
    if shards::has_weights(output) {
        return Err(taken("it holds a model's weights already"));
    }
    Ok(())
}

/// Opens the written model like any other, and compares its first and last changed tensor.
fn read_back(output: &Path, weights: &WeightFiles, adapter: &Adapter, dtype: StorageDtype) -> Result<(), HfError> {
    let written = WeightFiles::open(output)?;
    written.check(&ModelConfig::from_dir(output)?.tensors())?;
    let changed = [adapter.modules.keys().next(), adapter.modules.keys().next_back()];
    for module in changed.into_iter().flatten() {
        let tensor = format!("{module}.weight");
        let expected = merged_tensor(weights, adapter, &tensor)?.0.data.into_iter().map(|x| dtype.round(x).to_bits());
        if !expected.eq(written.read(&tensor)?.data.into_iter().map(f32::to_bits)) {
            return Err(HfError::ReadBack { path: output.to_owned(), tensor });
        }
    }
    Ok(())
}
