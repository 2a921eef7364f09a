//! GGUF files, as llama.cpp loads them: a model, with or without an adapter in its weights, in one file.
//!
//! The format is that of ggml's specification, version 3; names of keys and tensors are those of its `gguf` package,
//! which the Python checks read the files with.

mod blocks;
mod format;
mod metadata;
mod pre_tokenizer;
mod sentencepiece;
mod stripping;
mod tensors;
#[cfg(test)]
mod tests;
mod tokenizer;
mod write;

use std::path::Path;

pub use self::blocks::GgufType;
use self::format::Entry;
use self::tensors::Planned;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::merge_files::{merged, side_files};
use crate::peft::Adapter;
use crate::weights::{HostTensor, WeightFiles};

/// How a GGUF file is written.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufOptions {
    /// Type of the matrices; norms, biases and routers are in float32 whatever it is.
    pub outtype: GgufType,
    /// Name of the model in the file; none: that of its folder, altered where llama.cpp would read a property in it.
    pub name: Option<String>,
    /// llama.cpp's name of how text is split before byte-level BPE; none: found by the tokenizer's own pattern.
    pub tokenizer_pre: Option<String>,
}

/// What [`export_gguf`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufSummary {
    /// llama.cpp's name of the architecture.
    pub architecture: &'static str,
    /// Tensors of the file.
    pub num_tensors: usize,
    /// Its size.
    pub num_bytes: u64,
    /// Where llama.cpp will compute something else than the model, and what was stored otherwise than asked.
    pub notes: Vec<String>,
}

/// A model's weights as they go into the file: with the adapter's product added, one tensor at a time.
struct Weights {
    files: WeightFiles,
    adapter: Option<Adapter>,
}

impl Weights {
    fn read(&self, name: &str) -> Result<HostTensor, ModelError> {
        match &self.adapter {
            None => self.files.read(name),
            Some(adapter) => Ok(merged(&self.files, adapter, name)?.0),
        }
    }
}

/// Writes a model, with an adapter put into its weights if one is given, as one GGUF file.
///
/// One tensor is in memory at a time, and the file appears whole or not at all. Its first and last tensors are read back
/// and compared.
///
/// # Errors
/// [`ModelError`] where model, adapter or tokenizer cannot be read or do not fit each other; [`ModelError::Unsupported`]
/// naming the field that llama.cpp has no counterpart of; [`ModelError::OutputTaken`] where a folder or another file
/// than a GGUF file is at `output`; where the file cannot be written.
pub fn export_gguf(
    model_dir: &Path,
    adapter_dir: Option<&Path>,
    output: &Path,
    options: &GgufOptions,
) -> Result<GgufSummary, ModelError> {
    write::refuse_taken(output)?;
    // Tokenizer and template go into the file: a link out of the folder would publish what it leads to.
    side_files(model_dir)?;
    let config = ModelConfig::from_dir(model_dir)?;
    let files = WeightFiles::open(model_dir)?;
    files.check(&config.tensors())?;
    let adapter = adapter_dir.map(|dir| Adapter::read(dir, &config)).transpose()?;
    let weights = Weights { files, adapter };
    let mut notes = Vec::new();
    let model = metadata::Model { config: &config, path: &model_dir.join("config.json") };
    model.check(&mut notes)?;
    let (of_tokenizer, stripping) =
        tokenizer::entries(model_dir, &config, options.tokenizer_pre.as_deref(), &mut notes)?;
    let name = match &options.name {
        Some(name) => stripping.accept(name, &mut notes),
        None => stripping.adapt(&folder_name(model_dir).unwrap_or_else(|| model.name().to_owned()), &mut notes),
    };
    let mut entries = general(&name, &model, options);
    entries.extend(model.entries()?);
    entries.extend(of_tokenizer);
    let planned = tensors::plan(&model, options.outtype)?;
    notes.extend(fallback_note(&planned, options.outtype));
    let num_bytes = write::write(output, &entries, &planned, &weights)?;
    Ok(GgufSummary { architecture: model.name(), num_tensors: planned.len(), num_bytes, notes })
}

fn folder_name(dir: &Path) -> Option<String> {
    dir.canonicalize().ok()?.file_name().map(|name| name.display().to_string())
}

/// The keys that every file begins with.
fn general(name: &str, model: &metadata::Model<'_>, options: &GgufOptions) -> Vec<Entry> {
    vec![
        Entry::text("general.architecture", model.name()),
        Entry::text("general.type", "model"),
        Entry::text("general.name", name),
        Entry::count("general.file_type", options.outtype.file_type() as usize),
        // The version of ggml's block formats.
        Entry::count("general.quantization_version", 2),
    ]
}

/// Says how many matrices do not divide into blocks and are in float16 instead.
fn fallback_note(planned: &[Planned], outtype: GgufType) -> Option<String> {
    let blocked = matches!(outtype, GgufType::Q8_0 | GgufType::Q4_0);
    let num_whole = planned.iter().filter(|tensor| blocked && tensor.stored == GgufType::F16).count();
    let name = outtype.name();
    (num_whole > 0).then(|| format!("{num_whole} matrices have rows that no blocks of 32 fit: f16 instead of {name}"))
}
