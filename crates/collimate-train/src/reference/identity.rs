//! Hashes of models and adapters by what their folders hold.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use collimate_files::{open_regular, read_text};
use collimate_hf::WeightFiles;
use serde_json::Value;

use crate::error::TrainError;

/// How much of a file is read and hashed at once.
const PIECE_BYTES: usize = 16 << 20;
/// The largest configuration, in bytes, as the model's own reader has it.
const MAX_SETTINGS_BYTES: u64 = 64 << 20;

/// Settings of `config.json` that change no log-prob; all others count.
const IDLE_MODEL_SETTINGS: &[&str] = &[
    "_name_or_path",
    "transformers_version",
    // Values are read as they are stored and computed in the type that the recipe names, whatever is named here.
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
            let hash = hash_file(path).map_err(|source| TrainError::io(path, source))?;
            hasher.update(hash.as_bytes());
        }
        hasher.update(canonical_settings(&folder.join(settings), idle)?.as_bytes());
        Ok(Self { folder: folder.to_owned(), hash: hasher.finalize() })
    }

    /// The folder and the hash's first digits, for people.
    pub(super) fn describe(&self) -> String {
        format!("{} (blake3 {})", self.folder.display(), &self.hash.to_hex()[..12])
    }
}

/// Read piece by piece, so that the file is never in memory beside the model, and hashed on all cores.
fn hash_file(path: &Path) -> io::Result<Hash> {
    let (mut file, mut hasher) = (open_regular(path)?, Hasher::new());
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    while (&mut file).take(PIECE_BYTES as u64).read_to_end(&mut piece)? > 0 {
        hasher.update_rayon(&piece);
        piece.clear();
    }
    Ok(hasher.finalize())
}

/// The settings without those that are idle, with keys in order and without spaces.
fn canonical_settings(path: &Path, idle: &[&str]) -> Result<String, TrainError> {
    let text = read_text(path, MAX_SETTINGS_BYTES).map_err(|source| TrainError::io(path, source))?;
    let mut settings: Value =
        serde_json::from_str(&text).map_err(|error| TrainError::io(path, io::Error::other(error)))?;
    if let Some(settings) = settings.as_object_mut() {
        settings.retain(|key, _| !idle.contains(&key.as_str()));
    }
    settings.sort_all_objects();
    Ok(settings.to_string())
}
