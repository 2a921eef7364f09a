//! Operations on all pairs of a prompt's responses.

use collimate_objective::burn::tensor::{Bool, TensorData};
use collimate_objective::{FLOAT, ObjectiveBackend, ScoredGroups, Tensor};

/// v_i − v_j at `[b, i, j]`, `[B, K, K]`, including pairs with an absent response.
pub(crate) fn differences(values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 3> {
    values.clone().unsqueeze_dim::<3>(2) - values.unsqueeze_dim::<3>(1)
}

/// Sum over each prompt's pairs, `[B]`; set entries to 0 to exclude them.
pub(crate) fn total(pairs: Tensor<ObjectiveBackend, 3>) -> Tensor<ObjectiveBackend, 1> {
    pairs.sum_dim(2).sum_dim(1).squeeze_dim::<2>(2).squeeze_dim(1)
}

/// A mask whose entries are `entry(b, i, j)`.
pub(crate) fn mask(
    shape: [usize; 3],
    entry: impl Fn(usize, usize, usize) -> bool,
) -> Tensor<ObjectiveBackend, 3, Bool> {
    Tensor::from_data(TensorData::new(entries(shape, entry), shape), &Default::default())
}

/// A constant whose entries are `entry(b, i, j)`.
pub(crate) fn constant(shape: [usize; 3], entry: impl Fn(usize, usize, usize) -> f64) -> Tensor<ObjectiveBackend, 3> {
    Tensor::from_data(TensorData::new(entries(shape, entry), shape), (&Default::default(), FLOAT))
}

/// The values of a `[B, K]` tensor as one list per prompt, without absent responses.
pub(crate) fn numbers(groups: &ScoredGroups, values: Tensor<ObjectiveBackend, 2>) -> Vec<Vec<f64>> {
    let width = values.dims()[1];
    let all: Vec<f64> = values.into_data().iter::<f64>().collect();
    all.chunks(width).zip(groups.counts()).map(|(row, &count)| row[..count].to_vec()).collect()
}

fn entries<T>([a, b, c]: [usize; 3], entry: impl Fn(usize, usize, usize) -> T) -> Vec<T> {
    let entry = &entry;
    (0..a).flat_map(|i| (0..b).flat_map(move |j| (0..c).map(move |k| entry(i, j, k)))).collect()
}
