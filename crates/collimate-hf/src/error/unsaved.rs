//! Errors of weights that no file can hold.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::HfError;

/// Why weights are not saved. Nothing of their file, or of the other files of their model, was written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnsavedError {
    /// A weight is NaN or infinite, as after a sum that overflowed.
    #[error(
        "{}: tensor \"{tensor}\": value {index} would be {value}: weights that are not finite are never saved",
        path.display()
    )]
    NotFinite {
        /// The file being written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value's index in the tensor, from 0.
        index: usize,
        /// The value.
        value: f32,
    },

    /// A finite value overflows the storage type.
    #[error(
        "{}: tensor \"{tensor}\": {value} does not fit {dtype}: weights that are not finite are never saved; store it as {}",
        path.display(),
        wider(dtype)
    )]
    TooLarge {
        /// The file being written.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
        /// The storage type.
        dtype: String,
    },
}

impl UnsavedError {
    /// Checks that every value is finite. Every writer of weights asks here before it writes a tensor.
    ///
    /// # Errors
    /// [`UnsavedError::NotFinite`] with the first value that is not.
    pub fn check_finite(path: &Path, tensor: &str, values: &[f32]) -> Result<(), Self> {
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(index) => {
                Err(Self::NotFinite { path: path.to_owned(), tensor: tensor.to_owned(), index, value: values[index] })
            }
        }
    }
}

/// The types that hold larger values than this one.
fn wider(dtype: &str) -> &'static str {
    if dtype.starts_with("bf") { "float32" } else { "float32 or bfloat16" }
}

impl HfError {
    /// The error as if what was written to the hidden folder `from` had been written to `to`.
    pub fn moved(mut self, from: &Path, to: &Path) -> Self {
        let path = match &mut self {
            Self::Write(error) => &mut error.path,
            Self::Unsaved(UnsavedError::NotFinite { path, .. } | UnsavedError::TooLarge { path, .. })
            | Self::ReadBack { path, .. }
            | Self::Io { path, .. } => path,
            _ => return self,
        };
        if let Ok(inner) = path.strip_prefix(from) {
            *path = if inner.as_os_str().is_empty() { to.to_owned() } else { to.join(inner) };
        }
        self
    }
}
