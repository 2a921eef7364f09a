//! The error of everything that writes.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::hidden_name::shown;

/// A file or folder could not be written (disk full, no permission, read-only). Existing contents are untouched.
#[derive(Debug, Error)]
#[error("{}: cannot be written: {source}", shown(path).display())]
pub struct WriteError {
    /// The file or folder.
    pub path: PathBuf,
    /// The operating system's error.
    pub source: io::Error,
}

impl WriteError {
    /// Attaches the path to an I/O error: `fs::rename(&from, &to).map_err(WriteError::at(&to))`.
    pub fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { path, source }
    }
}
