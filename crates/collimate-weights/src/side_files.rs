//! What stands beside a model's configuration and weights: its tokenizer, chat template and generation settings.

use std::fs;
use std::path::{Path, PathBuf};

use collimate_files::{WriteError, is_there, open_regular, write_atomically};
use collimate_hf::HfError;

/// Files beside configuration and weights, which are fetched with a model, and which a merged or trained model inherits from its
/// base.
pub const SIDE_FILES: [&str; 18] = [
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
    // Of other tokenizers than those that are read: copied as they are.
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
    files.iter().try_for_each(|(_, source)| open_regular(source).map(drop).map_err(HfError::io(source)))?;
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

/// Whether a file of a model's folder is the model's own, so that its bytes may be copied: it is in the folder, or links to
/// a file beside the one that `config.json` links to, or to one of the same name. Folders of links have the first of these
/// (a download cache's `blobs`), and folders that share a tokenizer the second.
///
/// Copying any other link would put a private file into the output, which may be published.
fn is_of_model(dir: &Path, file: &Path) -> bool {
    let (Ok(dir), Ok(target)) = (dir.canonicalize(), file.canonicalize()) else { return false };
    let store = dir.join("config.json").canonicalize().ok();
    let is_beside = store.as_deref().and_then(Path::parent).is_some_and(|store| target.starts_with(store));
    target.starts_with(&dir) || is_beside || target.file_name() == file.file_name()
}
