//! A model's folder, whose files are opened once.

use std::path::{Path, PathBuf};

use crate::config::ModelConfig;
use crate::error::HfError;
use crate::weights::WeightFiles;

/// A model's folder with its configuration. Weights are opened at most once: for the configuration, where that depends on
/// the tensors of the files, or else when they are asked for.
#[derive(Debug)]
pub struct ModelFolder {
    config: ModelConfig,
    files: LazyFiles,
}

impl ModelFolder {
    /// Reads the configuration.
    ///
    /// # Errors
    /// As [`ModelConfig::from_dir`].
    pub fn open(dir: &Path) -> Result<Self, HfError> {
        let mut files = LazyFiles { dir: dir.to_owned(), opened: None };
        Ok(Self { config: ModelConfig::from_folder(dir, &mut files)?, files })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The configuration without the files.
    pub fn into_config(self) -> ModelConfig {
        self.config
    }

    /// The files of the weights.
    ///
    /// # Errors
    /// As [`WeightFiles::open`].
    pub fn into_weights(self) -> Result<WeightFiles, HfError> {
        self.files.opened.map_or_else(|| WeightFiles::open(&self.files.dir), Ok)
    }
}

/// Weight files that are opened when they are first asked for.
#[derive(Debug)]
pub(crate) struct LazyFiles {
    dir: PathBuf,
    opened: Option<WeightFiles>,
}

impl LazyFiles {
    /// The files; `None` if they cannot be opened, which whoever reads weights reports.
    pub(crate) fn get(&mut self) -> Option<&WeightFiles> {
        if self.opened.is_none() {
            self.opened = WeightFiles::open(&self.dir).ok();
        }
        self.opened.as_ref()
    }
}
