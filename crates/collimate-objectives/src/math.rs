//! Functions that stay finite for any log-ratio.

use collimate_objective::burn::tensor::TensorData;
pub(crate) use collimate_objective::burn::tensor::activation::{log_sigmoid, relu, sigmoid};
use collimate_objective::{ObjectiveBackend, Tensor};

/// Largest log-probability whose odds are taken; odds are infinite at 0.
const MAX_LOGP: f64 = -1e-9;

/// Log odds of a probability given by its logarithm: `p − log(1 − e^p)`, any shape.
pub(crate) fn log_odds<const D: usize>(logps: Tensor<ObjectiveBackend, D>) -> Tensor<ObjectiveBackend, D> {
    let logps = logps.clamp_max(MAX_LOGP);
    logps.clone() - (-logps.exp()).log1p()
}

/// Reorders `values` so that the entry at each index has the same rank as the entry of `like` there; `[B]`.
///
/// Among ties the earlier entry has the lower rank. Gradients flow through `values`, not through the ranks.
pub(crate) fn rank_matched(
    values: Tensor<ObjectiveBackend, 1>,
    like: Tensor<ObjectiveBackend, 1>,
) -> Tensor<ObjectiveBackend, 1> {
    let (from, to) = (argsort(values.clone()), argsort(like));
    let mut indices = vec![0i64; from.len()];
    for (&from, &to) in from.iter().zip(&to) {
        indices[to] = from as i64;
    }
    let shape = [indices.len()];
    values.select(0, Tensor::from_data(TensorData::new(indices, shape), &Default::default()))
}

/// Indices of the entries in ascending order.
fn argsort(values: Tensor<ObjectiveBackend, 1>) -> Vec<usize> {
    let numbers: Vec<f64> = values.into_data().iter::<f64>().collect();
    let mut indices: Vec<usize> = (0..numbers.len()).collect();
    indices.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
    indices
}
