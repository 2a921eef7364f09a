//! Elementwise functions that stay finite for any log-ratio.

use collimate_objective::burn::tensor::TensorData;
pub(crate) use collimate_objective::burn::tensor::activation::{log_sigmoid, relu, sigmoid};
use collimate_objective::{ObjectiveBackend, Tensor};

/// Log-probabilities nearer to 0 than this are moved away from it where odds are taken.
const LEAST_DOUBT: f64 = 1e-9;

/// log odds of a probability given by its logarithm: `p − log(1 − e^p)`, any shape.
pub(crate) fn log_odds<const D: usize>(logps: Tensor<ObjectiveBackend, D>) -> Tensor<ObjectiveBackend, D> {
    let logps = logps.clamp_max(-LEAST_DOUBT);
    logps.clone() - (-logps.exp()).log1p()
}

/// The entries of `values` in an order in which each has the rank that the entry of `like` at its place has; `[B]`.
///
/// Of equal entries the earlier has the lower rank. The gradient goes through `values`, not through the ranks.
pub(crate) fn rank_matched(
    values: Tensor<ObjectiveBackend, 1>,
    like: Tensor<ObjectiveBackend, 1>,
) -> Tensor<ObjectiveBackend, 1> {
    let (from, to) = (sorted_places(values.clone()), sorted_places(like));
    let mut places = vec![0i64; from.len()];
    for (&from, &to) in from.iter().zip(&to) {
        places[to] = from as i64;
    }
    let shape = [places.len()];
    values.select(0, Tensor::from_data(TensorData::new(places, shape), &Default::default()))
}

/// Places of the entries from the lowest to the highest.
fn sorted_places(values: Tensor<ObjectiveBackend, 1>) -> Vec<usize> {
    let numbers: Vec<f64> = values.into_data().iter::<f64>().collect();
    let mut places: Vec<usize> = (0..numbers.len()).collect();
    places.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
    places
}
