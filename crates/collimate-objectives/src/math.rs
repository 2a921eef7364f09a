//! Elementwise functions that stay finite for any log-ratio.

pub(crate) use collimate_objective::burn::tensor::activation::{log_sigmoid, relu, sigmoid};
use collimate_objective::{ObjectiveBackend, Tensor};

/// Log-probabilities nearer to 0 than this are moved away from it where odds are taken.
const LEAST_DOUBT: f64 = 1e-9;

/// log odds of a probability given by its logarithm: `p − log(1 − e^p)`, any shape.
pub(crate) fn log_odds<const D: usize>(logps: Tensor<ObjectiveBackend, D>) -> Tensor<ObjectiveBackend, D> {
    let logps = logps.clamp_max(-LEAST_DOUBT);
    logps.clone() - (-logps.exp()).log1p()
}
