//! A file of a mixture.

use std::path::PathBuf;

/// A file and the fraction of its groups to use.
#[derive(Debug, Clone, PartialEq)]
pub struct DataPart {
    /// The file.
    pub path: PathBuf,
    /// Fraction of the file's groups, in [0, 1]; at 0 the file is not opened.
    pub weight: f64,
}

impl DataPart {
    /// All groups of a file.
    pub fn whole(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), weight: 1.0 }
    }
}
