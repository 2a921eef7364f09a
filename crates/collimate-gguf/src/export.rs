//! The steps of the export.

use std::path::Path;

use collimate_peft::Adapter;
use collimate_weights::{WeightFiles, read_config, side_files};

use crate::blocks::GgufType;
use crate::error::GgufError;
use crate::format::Entry;
use crate::source::TensorSource;
use crate::weights::Weights;
use crate::{metadata, tensors, tokenizer, write};

/// How to write a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufOptions {
    /// Type of the matrices; norms, biases and routers are always float32.
    pub outtype: GgufType,
    /// Name of the model in the file; by default its folder's, altered if llama.cpp would read a property into it.
    pub name: Option<String>,
    /// llama.cpp's name for the pre-tokenizer of a byte-level BPE; by default recognized by its pattern.
    pub tokenizer_pre: Option<String>,
}

/// What [`export_gguf`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufSummary {
    /// llama.cpp's name for the architecture.
    pub architecture: &'static str,
    /// Number of tensors.
    pub num_tensors: usize,
    /// Size of the file in bytes.
    pub num_bytes: u64,
    /// Cases in which llama.cpp will compute something else, and matrices stored in another type than requested.
    pub notes: Vec<String>,
}

/// Writes a model as a GGUF file, with the adapter, if any, merged into its weights.
///
/// One tensor is in memory at a time, and the file appears complete or not at all. The first and last tensor are read back
/// and compared.
///
/// # Errors
/// [`GgufError`] if the model, adapter or tokenizer cannot be read or do not fit together; if llama.cpp has no counterpart
/// for a setting, which is named; if `output` is a folder or a file that is not GGUF; if the file cannot be written.
pub fn export_gguf(
    model_dir: &Path,
    adapter_dir: Option<&Path>,
    output: &Path,
    options: &GgufOptions,
) -> Result<GgufSummary, GgufError> {
    write::refuse_taken(output)?;
    // Tokenizer and template become part of the file, so a link out of the folder would publish a private file.
    side_files(model_dir)?;
    let base = read_config(model_dir)?;
    let files = WeightFiles::open(model_dir)?;
    let checked = files.check(&base.tensors())?;
    let adapter = adapter_dir.map(|dir| Adapter::read(dir, &base)).transpose()?;
    let config = adapter.as_ref().map_or_else(|| base.clone(), |adapter| adapter.merged_config(&base));
    let mut notes = [base.notes.clone(), checked.notes].concat();
    let weights = Weights { files, config: base, adapter };
    let path = model_dir.join("config.json");
    let model = metadata::Model::new(&config, &path)?;
    model.check(&mut notes)?;
    let (tokenizer_entries, stripping) =
        tokenizer::entries(model_dir, &config, options.tokenizer_pre.as_deref(), &mut notes)?;
    let name = match &options.name {
        Some(name) => stripping.accept(name, &mut notes),
        None => stripping.adapt(&folder_name(model_dir).unwrap_or_else(|| model.name().to_owned()), &mut notes),
    };
    let mut entries = general(&name, &model, options);
    entries.extend(model.entries()?);
    entries.extend(tokenizer_entries);
    let tensors = tensors::tensors(&model, options.outtype)?;
    notes.extend(fallback_note(&tensors, options.outtype));
    let num_bytes = write::write(output, &entries, &tensors, &weights)?;
    Ok(GgufSummary { architecture: model.name(), num_tensors: tensors.len(), num_bytes, notes })
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

/// A note on matrices that do not divide into blocks and are stored in float16 instead.
fn fallback_note(tensors: &[TensorSource], outtype: GgufType) -> Option<String> {
    let blocked = matches!(outtype, GgufType::Q8_0 | GgufType::Q4_0);
    let num_whole = tensors.iter().filter(|tensor| blocked && tensor.stored == GgufType::F16).count();
    let name = outtype.name();
    (num_whole > 0).then(|| format!("{num_whole} matrices have rows that no blocks of 32 fit: f16 instead of {name}"))
}
