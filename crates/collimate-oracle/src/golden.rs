//! The golden values of `tests/golden`, computed by PyTorch, transformers and PEFT.
//!
//! The repository holds numbers, configurations and seeds. [`golden_dir`] draws the weights and puts everything where tests
//! look for models, adapters and runs.

mod unpack;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::{Map, Value};

/// Golden values cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file does not hold what was expected.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// Drawn weights differ from those that PyTorch computed with.
    #[error("{path}: the weights drawn from it have SHA-256 {found}, expected {expected}")]
    Weights {
        /// The list of tensors.
        path: PathBuf,
        /// Checksum of the file drawn here.
        found: String,
        /// Checksum in the list.
        expected: String,
    },
}

impl GoldenError {
    fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::File { path: path.into(), source }
    }
}

/// Losses and gradients of one objective on one batch, in float64.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveRow {
    /// Name of the objective.
    pub objective: String,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// Policy log-probabilities in nats, `[B, K]`.
    pub policy_logps: Vec<Vec<f64>>,
    /// Reference log-probabilities in nats, `[B, K]`.
    pub reference_logps: Vec<Vec<f64>>,
    /// Rewards, higher is better, `[B, K]`.
    pub rewards: Vec<Vec<f64>>,
    /// Tokens of each response, `[B, K]`.
    pub lengths: Vec<Vec<usize>>,
    /// Loss of each prompt, `[B]`.
    pub loss: Vec<f64>,
    /// Mean of `loss`.
    pub mean_loss: f64,
    /// Gradient of the mean loss with respect to `policy_logps`, `[B, K]`.
    pub grad_of_mean: Vec<Vec<f64>>,
}

/// A folder with all golden models and values, unpacked into the target folder by whichever test needs it first.
///
/// `models/NAME` and `adapters/NAME` are Hugging Face and PEFT folders, `logps/NAME.json` their log-probs, `adapters/NAME.KIND`
/// other adapters, each with PEFT's values in `expected.json`, `train/RUN` the runs, `vq/NAME` decoders of pictures with theirs in `pictures.json`; `chat.json` and `objectives.json` belong to no model.
///
/// # Panics
/// `tests/golden` is damaged, or the target folder cannot be written.
pub fn golden_dir() -> PathBuf {
    static UNPACKED: OnceLock<PathBuf> = OnceLock::new();
    UNPACKED.get_or_init(|| unpack::unpacked().unwrap_or_else(|error| panic!("golden values: {error}"))).clone()
}

/// The family or run that a `golden.json` or `case.json` describes: the name of its folder. For tests that rstest generates
/// from `tests/golden/*/golden.json`, so that a new family needs no change to them.
///
/// # Panics
/// The path has no folder.
pub fn golden_name(file: &Path) -> &str {
    let name = file.parent().and_then(Path::file_name).and_then(std::ffi::OsStr::to_str);
    name.unwrap_or_else(|| panic!("{}: no folder gives it a name", file.display()))
}

/// Reads the rows of `objectives.json`.
///
/// # Errors
/// The file is missing or malformed.
pub fn objective_rows() -> Result<Vec<ObjectiveRow>, GoldenError> {
    let path = golden_dir().join("objectives.json");
    let text = std::fs::read_to_string(&path).map_err(GoldenError::file(&path))?;
    serde_json::from_str(&text).map_err(|source| GoldenError::Parse { path, source })
}
