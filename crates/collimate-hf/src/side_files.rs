//! What stands beside a model's configuration and weights: its tokenizer, chat template and generation settings.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_files::{WriteError, is_there, write_atomically};

use crate::error::HfError;
use crate::plain_file::{self, is_of_model};

/// Files that a merged or trained model inherits from its base.
pub(crate) const SIDE_FILES: [&str; 18] = [
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
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    // Of other tokenizers than those that are read.
    "spiece.model",
    "tekken.json",
    "vocab.txt",
    // Codebooks and decoders of models of pictures.
    "vae.safetensors",
    "vq.safetensors",
];

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

/// Copies tokenizer files, chat template and `generation_config.json` of a model folder, if they exist.
///
/// # Errors
/// [`HfError::Io`] or [`HfError::Write`] naming the file that could not be copied; [`HfError::LinkOutside`] if one links
/// to a file that is not the model's, since the copy would then contain a private file.
pub fn copy_side_files(from: &Path, to: &Path) -> Result<Vec<PathBuf>, HfError> {
    copy_files(side_files(from)?, to)
}

/// Copies files into a folder, under their names; returns where they are.
///
/// # Errors
/// [`HfError::Io`] or [`HfError::Write`] naming the file that could not be copied.
pub fn copy_files(files: Vec<(&'static str, PathBuf)>, to: &Path) -> Result<Vec<PathBuf>, HfError> {
    fs::create_dir_all(to).map_err(WriteError::at(to))?;
    let mut copied = Vec::new();
    for (name, source) in files {
        let bytes = fs::read(&source).map_err(HfError::io(&source))?;
        write_atomically(&to.join(name), &bytes)?;
        copied.push(to.join(name));
    }
    Ok(copied)
}
