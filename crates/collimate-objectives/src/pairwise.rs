//! All pairs of a prompt's responses.

use collimate_objective::burn::tensor::{Bool, TensorData};
use collimate_objective::{FLOAT, ObjectiveBackend, ScoredGroups, Tensor};

/// v_i − v_j of every pair, `[B, K, K]` at `[b, i, j]`; pairs with an absent response included.
pub(crate) fn differences(values: Tensor<ObjectiveBackend, 2>) -> Tensor<ObjectiveBackend, 3> {
    values.clone().unsqueeze_dim::<3>(2) - values.unsqueeze_dim::<3>(1)
}

/// Sum over a prompt's pairs, `[B]`; entries that are to be left out hold 0.
pub(crate) fn total(pairs: Tensor<ObjectiveBackend, 3>) -> Tensor<ObjectiveBackend, 1> {
    pairs.sum_dim(2).sum_dim(1).squeeze_dim::<2>(2).squeeze_dim(1)
}

/// A mask of the given shape, made entry by entry.
pub(crate) fn mask(shape: [usize; 3], of: impl Fn(usize, usize, usize) -> bool) -> Tensor<ObjectiveBackend, 3, Bool> {
    Tensor::from_data(TensorData::new(entries(shape, of), shape), &Default::default())
}

/// A constant of the given shape, made entry by entry.
pub(crate) fn constant(shape: [usize; 3], of: impl Fn(usize, usize, usize) -> f64) -> Tensor<ObjectiveBackend, 3> {
    Tensor::from_data(TensorData::new(entries(shape, of), shape), (&Default::default(), FLOAT))
}

/// The numbers of a tensor `[B, K]`, by prompt; absent responses left out.
pub(crate) fn numbers(groups: &ScoredGroups, values: Tensor<ObjectiveBackend, 2>) -> Vec<Vec<f64>> {
    let width = values.dims()[1];
    let all: Vec<f64> = values.into_data().iter::<f64>().collect();
    all.chunks(width).zip(groups.counts()).map(|(row, &count)| row[..count].to_vec()).collect()
}

fn entries<T>([a, b, c]: [usize; 3], of: impl Fn(usize, usize, usize) -> T) -> Vec<T> {
    let of = &of;
    (0..a).flat_map(|i| (0..b).flat_map(move |j| (0..c).map(move |k| of(i, j, k)))).collect()
}
