//! Merges a LoRA adapter into its base model's files, one tensor at a time.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use collimate_files::{ShardSize, WholeFolder};
use collimate_hf::{HfError, ModelConfig, TensorSpec, name_ends, named_ends};
use collimate_weights::{
    StorageDtype, WeightFiles, copy_files, has_weights, read_config, side_files, write_model_like,
};

use crate::adapter::Adapter;
use crate::merge::merged_tensor;

/// How a merged model is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergeOptions {
    /// The storage type; by default the base model's, or float32 if that has several, and bfloat16 if its weights are packed.
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
    /// Files copied from the base model or the adapter.
    pub copied: Vec<PathBuf>,
    /// What was passed over or decided about the base model's files.
    pub notes: Vec<String>,
}

/// A merged model that is written, read back and compared, but not yet at its place.
#[derive(Debug)]
pub struct StagedMerge {
    folder: WholeFolder,
    summary: MergeSummary,
}

impl StagedMerge {
    /// The hidden folder with the model's files, to which others may be added.
    pub fn folder(&self) -> &Path {
        self.folder.staging()
    }

    /// Makes the model appear.
    ///
    /// # Errors
    /// [`HfError::Write`] if that fails; then nothing of it is left.
    pub fn commit(self) -> Result<MergeSummary, HfError> {
        // Nothing takes a folder without it for a model.
        self.folder.commit("config.json")?;
        Ok(self.summary)
    }
}

/// Writes the model with the adapter merged into its weights, as [`stage_merge`] says, and makes it appear.
///
/// # Errors
/// As [`stage_merge`].
pub fn merge_adapter(
    model_dir: &Path,
    adapter_dir: &Path,
    output_dir: &Path,
    options: MergeOptions,
) -> Result<MergeSummary, HfError> {
    stage_merge(model_dir, adapter_dir, output_dir, options)?.commit()
}

/// Writes the model with the adapter merged into its weights: `W + s · B A`, computed in float32. It appears whole, by
/// [`StagedMerge::commit`], or not at all.
///
/// Tokenizer files and `generation_config.json` are copied from the base model, or from the adapter's folder if it has a
/// tokenizer, which training may have changed; the ends of turns that the adapter's `generation_config.json` names are
/// named. The first and the last changed tensor are read back and compared. One tensor is in memory at a time. Packed weights
/// are unpacked, and the merged model has none.
///
/// # Errors
/// [`HfError`] if model or adapter cannot be read or do not fit together; if a sum is not finite in the type it is stored in;
/// if `output_dir` is one of their folders, holds anything or cannot be written. Then nothing was written.
pub fn stage_merge(
    model_dir: &Path,
    adapter_dir: &Path,
    output_dir: &Path,
    options: MergeOptions,
) -> Result<StagedMerge, HfError> {
    let config = read_config(model_dir)?;
    let weights = WeightFiles::open(model_dir)?;
    let base_specs = config.tensors();
    let checked = weights.check(&base_specs)?;
    let adapter = Adapter::read(adapter_dir, &config)?;
    nothing_packed_beside(model_dir, &config, &weights)?;
    let merged = adapter.merged_config(&config).unpacked();
    let specs = merged.tensors();
    output_is_free(output_dir, [model_dir, adapter_dir])?;
    // A link out of the folder must be refused before anything is written.
    let inherited = inherited(model_dir, adapter_dir)?;
    let packed = base_specs.iter().filter(|spec| weights.is_packed(&spec.name)).count();
    let mixed: Vec<_> = base_specs.iter().filter(|spec| !config.keeps_float32(&spec.name)).cloned().collect();
    let dtype = options.dtype.unwrap_or_else(|| default_dtype(&weights, &mixed, packed > 0));
    let mut largest_change = 0.0_f32;
    let tensors = specs.iter().map(|spec| {
        let (tensor, change) = merged_tensor(&weights, &adapter, &config, &spec.name)?;
        largest_change = largest_change.max(change);
        Ok((spec.name.clone(), tensor))
    });
    let folder = WholeFolder::create(output_dir)?;
    let write = |dir: &Path| {
        write_model_like(dir, &merged, &weights, tensors, dtype, options.max_shard_size)?;
        let copied = copy_files(inherited, dir)?;
        name_ends(dir, model_dir, &named_ends(adapter_dir)?)?;
        read_back(dir, &Source { weights: &weights, adapter: &adapter, model: &config }, dtype)?;
        Ok(copied)
    };
    // The hidden name would mean nothing to the user.
    let copied = write(folder.staging()).map_err(|error: HfError| error.moved(folder.staging(), output_dir))?;
    let copied = copied.iter().filter_map(|path| Some(output_dir.join(path.file_name()?))).collect();
    let summary = MergeSummary {
        num_tensors: specs.len(),
        num_merged: adapter.changed_tensors(&config).len(),
        scale: adapter.config.scale(),
        dtype,
        largest_change,
        copied,
        notes: [config.notes.clone(), checked.notes, unpacked_note(model_dir, &config, packed, dtype)].concat(),
    };
    Ok(StagedMerge { folder, summary })
}

/// Refuses packed tensors beside a text model: the merged model's `config.json` would not describe them.
fn nothing_packed_beside(dir: &Path, config: &ModelConfig, weights: &WeightFiles) -> Result<(), HfError> {
    let kept = if config.quantization.is_some() { weights.kept(config) } else { Vec::new() };
    match kept.into_iter().find(|tensor| StorageDtype::from_stored(tensor.dtype).is_none()) {
        None => Ok(()),
        Some(tensor) => Err(HfError::UnsupportedDtype {
            path: dir.to_owned(),
            tensor: tensor.name.to_owned(),
            found: format!("{:?}", tensor.dtype),
        }),
    }
}

/// The type of the base model's tensors, or float32 if they have several; bfloat16 for packed ones, which stand for numbers of
/// fewer digits than that.
fn default_dtype(weights: &WeightFiles, specs: &[TensorSpec], is_packed: bool) -> StorageDtype {
    if is_packed {
        return StorageDtype::BF16;
    }
    let stored = |name: &str| weights.dtype(name).and_then(StorageDtype::from_stored);
    let first = stored(&specs[0].name).unwrap_or(StorageDtype::F32);
    if specs.iter().all(|spec| stored(&spec.name) == Some(first)) { first } else { StorageDtype::F32 }
}

/// Says that packed weights were unpacked: the merged model is several times as large as its base.
fn unpacked_note(model_dir: &Path, config: &ModelConfig, packed: usize, dtype: StorageDtype) -> Vec<String> {
    let format = config.packable_weights().iter().find_map(|weight| config.packed_format(weight));
    let format = format.map_or("packed", |format| format.name());
    let (model, dtype) = (model_dir.display(), dtype.name());
    let note = || format!("{model}: {packed} weights in {format} were unpacked, and the merged model is in {dtype}");
    (packed > 0).then(note).into_iter().collect()
}

/// The side files of a merged model: the base's, or the adapter's if it has a tokenizer of its own.
fn inherited(model_dir: &Path, adapter_dir: &Path) -> Result<Vec<(&'static str, PathBuf)>, HfError> {
    let (mut files, own) = (side_files(model_dir)?, side_files(adapter_dir)?);
    let is_own = |name: &str| own.iter().any(|(own, _)| *own == name);
    if is_own("tokenizer.json") {
        files.retain(|(name, _)| *name == "generation_config.json" && !is_own(name));
        files.extend(own);
    }
    Ok(files)
}

fn output_is_free(output: &Path, sources: [&Path; 2]) -> Result<(), HfError> {
    let taken = |reason: &str| HfError::OutputTaken { path: output.to_owned(), reason: reason.to_owned() };
    let Ok(output_dir) = output.canonicalize() else {
        return match output.symlink_metadata() {
            Ok(_) => Err(taken("it is a link that leads nowhere")),
            Err(_) => Ok(()),
        };
    };
    if sources.iter().any(|source| source.canonicalize().is_ok_and(|source| source == output_dir)) {
        return Err(taken("it is the folder of the model or of the adapter"));
    }
    if !output_dir.is_dir() {
        return Err(taken("it is a file, and the output is a folder"));
    }
    WholeFolder::recover(&output_dir)?;
    if has_weights(output) {
        return Err(taken("it holds a model's weights already"));
    }
    let first = fs::read_dir(output).map_err(HfError::io(output))?.next().transpose().map_err(HfError::io(output))?;
    match first {
        None => Ok(()),
        Some(entry) => {
            let name = entry.file_name().display().to_string();
            Err(taken(&format!("it holds \"{name}\"; a merged model gets a folder of its own, new or empty")))
        }
    }
}

/// What a merged model is made of.
struct Source<'a> {
    weights: &'a WeightFiles,
    adapter: &'a Adapter,
    model: &'a ModelConfig,
}

/// Opens the written model like any other, and compares its first and last changed tensor.
fn read_back(output: &Path, source: &Source<'_>, dtype: StorageDtype) -> Result<(), HfError> {
    let written = WeightFiles::open(output)?;
    written.check(&read_config(output)?.tensors())?;
    let changed = source.adapter.changed_tensors(source.model);
    for tensor in [changed.first(), changed.last()].into_iter().flatten() {
        let expected = merged_tensor(source.weights, source.adapter, source.model, tensor)?.0.data;
        let dtype = dtype.of(source.model, tensor);
        let expected = expected.into_iter().map(|x| dtype.round(x).to_bits());
        if !expected.eq(written.read(tensor)?.data.into_iter().map(f32::to_bits)) {
            return Err(HfError::ReadBack { path: output.to_owned(), tensor: tensor.clone() });
        }
    }
    Ok(())
}
