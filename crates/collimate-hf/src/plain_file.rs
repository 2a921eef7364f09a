//! Reads the files of models and adapters, but no devices or pipes, and nothing implausibly large.

use std::path::Path;

use collimate_files::read_bytes;
use serde_json::Value;

use crate::error::HfError;

/// Size limit of a configuration or index, in bytes. The index of a model of 61 layers with 256 experts has some 10 MB.
pub(crate) const MAX_JSON_BYTES: u64 = 64 << 20;

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
