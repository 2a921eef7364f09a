//! Bounded reads of the files in a model's folder.

use std::io::ErrorKind;
use std::path::Path;

use crate::TextError;

/// The largest configuration or template file, in bytes. Published ones stay below 2 MB.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Reads a text file; `None` if it does not exist.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, TextError> {
    let Some(bytes) = read_bytes(path, MAX_TEXT_BYTES)? else { return Ok(None) };
    let not_text = |_| TextError::File { path: path.to_owned(), problem: "not UTF-8 text".to_owned() };
    String::from_utf8(bytes).map(Some).map_err(not_text)
}

/// Reads a file of at most `limit` bytes; `None` if it does not exist. Only regular files are read: reading a device
/// through a link might never end.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, TextError> {
    match collimate_files::read_bytes(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Io { path: path.to_owned(), source }),
    }
}

/// Reads a JSON object; `None` if the file does not exist.
pub(crate) fn read_json(path: &Path) -> Result<Option<serde_json::Value>, TextError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| TextError::Json {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        message: error.to_string(),
    })?;
    if !value.is_object() {
        return Err(TextError::File { path: path.to_owned(), problem: "expected a JSON object".to_owned() });
    }
    Ok(Some(value))
}

/// What a model's `config.json` says about the tokens it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ModelLimits {
    /// Rows of the embedding.
    pub(crate) num_embeddings: Option<usize>,
    /// Tokens of the longest sequence that the model was made for.
    pub(crate) max_positions: Option<usize>,
}

impl ModelLimits {
    /// Reads a model's folder. A `config.json` that is missing or broken says nothing here: what loads the model reports
    /// it.
    pub(crate) fn from_model_dir(dir: &Path) -> Self {
        let Ok(Some(config)) = read_json(&dir.join("config.json")) else { return Self::default() };
        let set = |value: &serde_json::Value, name: &str| value.get(name).filter(|value| !value.is_null()).cloned();
        let field = |name: &str| set(&config, name).or_else(|| set(config.get("text_config")?, name));
        let size = |value: &serde_json::Value| value.as_u64().and_then(|size| usize::try_from(size).ok());
        let scaling = field("rope_scaling").or_else(|| field("rope_parameters"));
        // Where layers with a window have a rotation of their own, that of the others says how long a text may be.
        let scaling = scaling.map(|scaling| scaling.get("full_attention").cloned().unwrap_or(scaling));
        let max_positions = field("max_position_embeddings").as_ref().and_then(size).map(|positions| {
            let original = scaling.as_ref().and_then(|scaling| size(scaling.get("original_max_position_embeddings")?));
            let factor = scaling.as_ref().and_then(|scaling| scaling.get("factor")?.as_f64()).unwrap_or(1.0);
            // Some configurations give the length before scaling, others the length after it.
            positions.max((original.unwrap_or(positions) as f64 * factor) as usize)
        });
        Self { num_embeddings: field("vocab_size").as_ref().and_then(size), max_positions }
    }
}
