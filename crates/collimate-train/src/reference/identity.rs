//! Hashes of models and adapters by what their folders hold.

use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use collimate_model::WeightFiles;
use serde_json::Value;

use crate::error::TrainError;

/// Settings of `config.json` that change no log-prob; all others count.
const IDLE_MODEL_SETTINGS: &[&str] = &[
    "_name_or_path",
    "transformers_version",
    // Values are read as they are stored and computed in float32, whatever type is named here.
    "dtype",
    "torch_dtype",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
];

/// Settings of `adapter_config.json` that change no log-prob; all others count.
const IDLE_ADAPTER_SETTINGS: &[&str] =
    &["base_model_name_or_path", "revision", "inference_mode", "task_type", "auto_mapping", "lora_dropout"];

/// A folder and the hash of what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) folder: PathBuf,
    pub(super) hash: Hash,
}

impl Identity {
    /// Of a model: the bytes of its weights, and its configuration.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    pub(super) fn of_model(folder: &Path) -> Result<Self, TrainError> {
        let files = WeightFiles::open(folder)?;
        Self::of(folder, files.paths(), "config.json", IDLE_MODEL_SETTINGS)
    }

    /// Of an adapter: the bytes of its matrices, and its settings.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    pub(super) fn of_adapter(folder: &Path) -> Result<Self, TrainError> {
        let weights = folder.join("adapter_model.safetensors");
        Self::of(folder, std::iter::once(weights.as_path()), "adapter_config.json", IDLE_ADAPTER_SETTINGS)
    }

    fn of<'a>(
        folder: &Path,
        weights: impl Iterator<Item = &'a Path>,
        settings: &str,
        idle: &[&str],
    ) -> Result<Self, TrainError> {
        let mut hasher = Hasher::new();
        for path in weights {
            // Mapped and hashed on all cores: some GB/s a core once the file is in memory.
            let mut file = Hasher::new();
            file.update_mmap_rayon(path).map_err(|source| TrainError::io(path, source))?;
            hasher.update(file.finalize().as_bytes());
        }
        hasher.update(canonical_settings(&folder.join(settings), idle)?.as_bytes());
        Ok(Self { folder: folder.to_owned(), hash: hasher.finalize() })
    }

    /// The folder and the hash's first digits, for people.
    pub(super) fn describe(&self) -> String {
        format!("{} (blake3 {})", self.folder.display(), &self.hash.to_hex()[..12])
    }
}

/// The settings without those that are idle, with keys in order and without spaces.
fn canonical_settings(path: &Path, idle: &[&str]) -> Result<String, TrainError> {
    let text = std::fs::read(path).map_err(|source| TrainError::io(path, source))?;
    let mut settings: Value =
        serde_json::from_slice(&text).map_err(|error| TrainError::io(path, std::io::Error::other(error)))?;
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|key, _| !idle.contains(&key.as_str()));
    }
    settings.sort_all_objects();
    Ok(settings.to_string())
}
