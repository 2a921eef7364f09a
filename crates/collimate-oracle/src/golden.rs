//! Reads the golden files, which PyTorch wrote.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

/// A golden file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The file is not there.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file does not hold what was expected.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
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
    /// Gradient of the mean loss in `policy_logps`, `[B, K]`.
    pub grad_of_mean: Vec<Vec<f64>>,
}

/// The folder of golden files beside the repository.
pub fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/parity/golden")
}

/// Reads the rows of `objectives.json`.
///
/// # Errors
/// The file is missing, or does not hold such rows.
pub fn objective_rows() -> Result<Vec<ObjectiveRow>, GoldenError> {
    let path = golden_dir().join("objectives.json");
    let text = std::fs::read_to_string(&path).map_err(|source| GoldenError::Read { path: path.clone(), source })?;
    serde_json::from_str(&text).map_err(|source| GoldenError::Parse { path, source })
}
