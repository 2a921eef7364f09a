//! Identifies models and adapters by the contents of their folders.

#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use collimate_files::{open_regular, read_text};
use collimate_hf::{CODEBOOK_FILE, HfError};
use collimate_weights::WeightFiles;
use serde_json::Value;

/// Bytes of a file to read and hash at a time.
const CHUNK_BYTES: usize = 16 << 20;
/// The largest configuration, in bytes; the model's own reader has the same limit.
const MAX_SETTINGS_BYTES: u64 = 64 << 20;

/// Settings of `config.json` that do not affect log-probs; all others are hashed.
const NEUTRAL_MODEL_SETTINGS: &[&str] = &[
    "_name_or_path",
    "transformers_version",
    // Values are read as stored and computed in the recipe's dtype, whatever these say.
    "dtype",
    "torch_dtype",
    "use_cache",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
];

/// Settings of `adapter_config.json` that do not affect log-probs; all others are hashed.
const NEUTRAL_ADAPTER_SETTINGS: &[&str] =
    &["base_model_name_or_path", "revision", "inference_mode", "task_type", "auto_mapping", "lora_dropout"];

/// Files beside weights and configuration that log-probs depend on, in folders that have them: how images are prepared, and the
/// codebook that token maps are embedded by.
const BESIDE: [&str; 3] = ["processor_config.json", "preprocessor_config.json", CODEBOOK_FILE];

/// A folder and the hash of its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The folder.
    pub folder: PathBuf,
    /// The hash; it does not depend on where the folder is.
    pub hash: Hash,
}

impl Identity {
    /// Hashes a model: the bytes of its weights, its configuration, and how images and token maps become its inputs.
    ///
    /// # Errors
    /// A file is missing or cannot be read.
    pub fn of_model(folder: &Path) -> Result<Self, HfError> {
        let files = WeightFiles::open(folder)?;
        let own = Self::from_files(folder, files.paths(), "config.json", NEUTRAL_MODEL_SETTINGS)?;
        let beside = BESIDE.map(|name| (name, folder.join(name)));
        let mut hasher = Hasher::new();
        hasher.update(own.hash.as_bytes());
        for (name, path) in beside.iter().filter(|(_, path)| path.is_file()) {
            hasher.update(name.as_bytes());
            hasher.update(hash_file(path).map_err(HfError::io(path))?.as_bytes());
        }
        // Any other model is what it was before these files counted.
        let hash = if beside.iter().any(|(_, path)| path.is_file()) { hasher.finalize() } else { own.hash };
        Ok(Self { hash, ..own })
    }

    /// Hashes an adapter: the bytes of its matrices, and its settings.
    ///
    /// # Errors
    /// A file is missing or cannot be read.
    pub fn of_adapter(folder: &Path) -> Result<Self, HfError> {
        let weights = folder.join("adapter_model.safetensors");
        Self::from_files(folder, std::iter::once(weights.as_path()), "adapter_config.json", NEUTRAL_ADAPTER_SETTINGS)
    }

    fn from_files<'a>(
        folder: &Path,
        weights: impl Iterator<Item = &'a Path>,
        settings: &str,
        neutral: &[&str],
    ) -> Result<Self, HfError> {
        let mut hasher = Hasher::new();
        for path in weights {
            let hash = hash_file(path).map_err(HfError::io(path))?;
            hasher.update(hash.as_bytes());
        }
        hasher.update(canonical_settings(&folder.join(settings), neutral)?.as_bytes());
        Ok(Self { folder: folder.to_owned(), hash: hasher.finalize() })
    }

    /// Folder and first digits of the hash, for the log.
    pub fn describe(&self) -> String {
        format!("{} (blake3 {})", self.folder.display(), &self.hash.to_hex()[..12])
    }
}

/// Hashes a file on all cores, chunk by chunk, so that it is never in memory at once.
fn hash_file(path: &Path) -> io::Result<Hash> {
    let (mut file, mut hasher) = (open_regular(path)?, Hasher::new());
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    while (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)? > 0 {
        hasher.update_rayon(&chunk);
        chunk.clear();
    }
    Ok(hasher.finalize())
}

/// The settings that affect log-probs, as JSON with sorted keys and without spaces.
fn canonical_settings(path: &Path, neutral: &[&str]) -> Result<String, HfError> {
    let text = read_text(path, MAX_SETTINGS_BYTES).map_err(HfError::io(path))?;
    let mut settings: Value = serde_json::from_str(&text).map_err(|error| HfError::json(path, &error))?;
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|key, _| !neutral.contains(&key.as_str()));
    }
    settings.sort_all_objects();
    Ok(settings.to_string())
}
