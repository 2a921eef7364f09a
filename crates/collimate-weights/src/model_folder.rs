//! A model's folder, whose files are opened once.

use std::path::{Path, PathBuf};

use collimate_hf::{HfError, ModelConfig};

use crate::shards;
use crate::weights::WeightFiles;

/// Reads `config.json` of a model folder, with the end-of-text tokens of its `generation_config.json` and what its weights say
/// about it.
///
/// # Errors
/// As [`ModelFolder::open`].
pub fn read_config(dir: &Path) -> Result<ModelConfig, HfError> {
    ModelFolder::open(dir).map(ModelFolder::into_config)
}

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
    /// [`HfError::PickledWeights`] if it is a pickled file; otherwise as [`ModelConfig::as_stated`].
    pub fn open(dir: &Path) -> Result<Self, HfError> {
        if dir.is_file() && shards::is_pickle(dir) {
            return Err(HfError::PickledWeights { path: dir.to_owned() });
        }
        let mut files = LazyFiles { dir: dir.to_owned(), opened: None };
        let config = with_stored_head(dir, ModelConfig::as_stated(dir)?, &mut files);
        Ok(Self { config: packed_as_stored(config, &mut files), files })
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
struct LazyFiles {
    dir: PathBuf,
    opened: Option<WeightFiles>,
}

impl LazyFiles {
    /// The files; `None` if they cannot be opened, which whoever reads weights reports.
    fn get(&mut self) -> Option<&WeightFiles> {
        if self.opened.is_none() {
            self.opened = WeightFiles::open(&self.dir).ok();
        }
        self.opened.as_ref()
    }
}

/// The configuration, with an output layer of its own if the weights hold one that is not the embedding. transformers does
/// the same, whatever `tie_word_embeddings` says.
fn with_stored_head(dir: &Path, config: ModelConfig, files: &mut LazyFiles) -> ModelConfig {
    if !config.tie_word_embeddings {
        return config;
    }
    let equal = files.get().and_then(|weights| weights.are_equal(&config.head().name, &config.embedding().name));
    if equal != Some(false) {
        return config;
    }
    let mut config = config.untied();
    config.notes.push(format!(
        "{}: tie_word_embeddings is true, but the weights have an lm_head.weight that is not the embedding: it is the \
         output layer, as in transformers",
        dir.join("config.json").display()
    ));
    config
}

/// The configuration with the weights that are packed in the files: configurations are not precise there.
fn packed_as_stored(config: ModelConfig, files: &mut LazyFiles) -> ModelConfig {
    if config.quantization.is_none() {
        return config;
    }
    let Some(weights) = files.get() else { return config };
    let linears = config.packable_weights().into_iter();
    let unpacked_weights = linears.filter(|weight| !weights.is_packed(weight)).collect();
    ModelConfig { unpacked_weights, ..config }
}
