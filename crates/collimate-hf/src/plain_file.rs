//! Opens the files of models and adapters, but no devices or pipes, and nothing implausibly large.

use std::fs::File;
use std::path::Path;

use collimate_files::{open_regular, read_bytes};
use serde_json::Value;

use crate::error::HfError;

/// Size limit of a configuration or index, in bytes. The index of a model of 61 layers with 256 experts has some 10 MB.
pub(crate) const MAX_JSON_BYTES: u64 = 64 << 20;

/// Opens a regular file, following links. Reading a device or a pipe might never end.
pub(crate) fn open(path: &Path) -> Result<File, HfError> {
    open_regular(path).map_err(HfError::io(path))
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// [`HfError`] if it is not a regular file, is larger, or cannot be read.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, HfError> {
    read_bytes(path, limit).map_err(HfError::io(path))
}

/// Reads a configuration or an index as JSON.
pub fn read_json(path: &Path) -> Result<Value, HfError> {
    let text = read_bounded(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&text).map_err(|error| HfError::json(path, &error))
}

/// Whether a file of a model's folder is the model's own, so that its bytes may be copied: it is in the folder, or links to
/// a file beside the one that `config.json` links to, or to one of the same name. Folders of links have the first of these
/// (a download cache's `blobs`), and folders that share a tokenizer the second.
///
/// Copying any other link would put a private file into the output, which may be published.
pub(crate) fn is_of_model(dir: &Path, file: &Path) -> bool {
    let (Ok(dir), Ok(target)) = (dir.canonicalize(), file.canonicalize()) else { return false };
    let store = dir.join("config.json").canonicalize().ok();
    let is_beside = store.as_deref().and_then(Path::parent).is_some_and(|store| target.starts_with(store));
    target.starts_with(&dir) || is_beside || target.file_name() == file.file_name()
}
