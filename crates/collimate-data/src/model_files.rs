//! Reading the small text files of a model's folder.

use std::io::ErrorKind;
use std::path::Path;

use crate::DataError;

/// The text of a file, or none where there is no such file.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>, DataError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataError::Io { path: path.to_owned(), source }),
    }
}

/// The JSON object of a file, or none where there is no such file.
pub(crate) fn read_json(path: &Path) -> Result<Option<serde_json::Value>, DataError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| DataError::Json {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        message: error.to_string(),
    })?;
    if !value.is_object() {
        return Err(DataError::File { path: path.to_owned(), problem: "expected a JSON object".to_owned() });
    }
    Ok(Some(value))
}
