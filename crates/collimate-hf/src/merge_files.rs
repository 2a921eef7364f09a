//! Merges a LoRA adapter into its base model's files, one tensor at a time.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use collimate_files::{ShardSize, WholeFolder, WriteError, is_there, write_atomically};

use crate::blocks::TensorSpec;
use crate::config::ModelConfig;
use crate::ends::{name_ends, named_ends};
use crate::error::HfError;
use crate::peft::{Adapter, merged_tensor};
use crate::plain_file::{self, is_of_model};
use crate::shards;
use crate::weights::WeightFiles;
use crate::write_weights::{StorageDtype, try_write_model};

/// Files that a merged model inherits from its base.
pub(crate) const SIDE_FILES: [&str; 10] = [
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
    let config = ModelConfig::from_dir(model_dir)?;
    let weights = WeightFiles::open(model_dir)?;
    let base_specs = config.tensors();
    let checked = weights.check(&base_specs)?;
    let adapter = Adapter::read(adapter_dir, &config)?;
    let merged = adapter.merged_config(&config).unpacked();
    let specs = merged.tensors();
    output_is_free(output_dir, [model_dir, adapter_dir])?;
    // A link out of the folder must be refused before anything is written.
    let inherited = inherited(model_dir, adapter_dir)?;
    let packed = base_specs.iter().filter(|spec| weights.is_packed(&spec.name)).count();
    let dtype = options.dtype.unwrap_or_else(|| default_dtype(&weights, &base_specs, packed > 0));
    let mut largest_change = 0.0_f32;
    let tensors = specs.iter().map(|spec| {
        let (tensor, change) = merged_tensor(&weights, &adapter, &config, &spec.name)?;
        largest_change = largest_change.max(change);
        Ok((spec.name.clone(), tensor))
    });
    let folder = WholeFolder::create(output_dir)?;
    let write = |dir: &Path| {
        try_write_model(dir, &merged, tensors, dtype, options.max_shard_size)?;
        let copied = copy(inherited, dir)?;
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

/// Copies tokenizer files, chat template and `generation_config.json` of a model folder, if they exist.
///
/// # Errors
/// [`HfError::Io`] or [`HfError::Write`] naming the file that could not be copied; [`HfError::LinkOutside`] if one links
/// to a file that is not the model's, since the copy would then contain a private file.
pub fn copy_side_files(from: &Path, to: &Path) -> Result<Vec<PathBuf>, HfError> {
    copy(side_files(from)?, to)
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

fn copy(files: Vec<(&'static str, PathBuf)>, to: &Path) -> Result<Vec<PathBuf>, HfError> {
    fs::create_dir_all(to).map_err(WriteError::at(to))?;
    let mut copied = Vec::new();
    for (name, source) in files {
        let bytes = fs::read(&source).map_err(HfError::io(&source))?;
        write_atomically(&to.join(name), &bytes)?;
        copied.push(to.join(name));
    }
    Ok(copied)
}

/// Tokenizer files, chat template and `generation_config.json` of a folder, if they exist; each can be read. One that is there and is
/// no file is not passed over: a copy without a tokenizer would be another model.
///
/// # Errors
/// [`HfError::LinkOutside`] naming the first that links to a file that is not the model's; [`HfError::NotAFile`] naming the first
/// that is a folder, a pipe or a device; [`HfError::Io`] naming the first that cannot be opened.
pub fn side_files(from: &Path) -> Result<Vec<(&'static str, PathBuf)>, HfError> {
    let all = SIDE_FILES.into_iter().map(|name| (name, from.join(name)));
    let files: Vec<_> = all.filter(|(_, source)| is_there(source)).collect();
    files.iter().try_for_each(|(_, source)| plain_file::open(source).map(drop))?;
    if let Some((_, outside)) = files.iter().find(|(_, source)| !is_of_model(from, source)) {
        return Err(HfError::LinkOutside { path: outside.clone() });
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
    if shards::has_weights(output) {
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
    written.check(&ModelConfig::from_dir(output)?.tensors())?;
    let changed = source.adapter.changed_tensors(source.model);
    for tensor in [changed.first(), changed.last()].into_iter().flatten() {
        let expected = merged_tensor(source.weights, source.adapter, source.model, tensor)?.0.data;
        let expected = expected.into_iter().map(|x| dtype.round(x).to_bits());
        if !expected.eq(written.read(tensor)?.data.into_iter().map(f32::to_bits)) {
            return Err(HfError::ReadBack { path: output.to_owned(), tensor: tensor.clone() });
        }
    }
    Ok(())
}
