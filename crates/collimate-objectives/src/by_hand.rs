//! Losses whose values and gradients are computed by hand, in numbers.
//!
//! Tensors of all pairs of a prompt's responses, and those that automatic differentiation keeps of them, take gigabytes for
//! prompts with thousands of responses. What is computed here takes memory in proportion to the responses.

use collimate_objective::burn::tensor::TensorData;
use collimate_objective::{FLOAT, ObjectiveBackend, ScoredGroups, Tensor};

/// Most responses of a prompt that are all compared with each other; each doubling takes four times as long.
pub(crate) const MOST_COMPARED: usize = 1 << 12;

/// The loss of one prompt, and its gradient.
pub(crate) struct Differentiated {
    pub(crate) loss: f64,
    /// By response.
    pub(crate) gradient: Vec<f64>,
}

impl Differentiated {
    /// Zero, for a prompt with K responses.
    pub(crate) fn zero(num_responses: usize) -> Self {
        Self { loss: 0.0, gradient: vec![0.0; num_responses] }
    }
}

/// The loss of each prompt as a tensor `[B]` with its gradient in `values`, `[B, K]`. `loss` is called with a prompt's index and
/// its values, without absent responses.
pub(crate) fn losses(
    groups: &ScoredGroups,
    values: &Tensor<ObjectiveBackend, 2>,
    loss: impl Fn(usize, &[f64]) -> Differentiated,
) -> Tensor<ObjectiveBackend, 1> {
    let [num_groups, width] = values.dims();
    let (mut losses, mut gradients) = (Vec::with_capacity(num_groups), Vec::with_capacity(num_groups * width));
    for (index, row) in numbers(groups, values.clone()).iter().enumerate() {
        let found = loss(index, row);
        losses.push(found.loss);
        gradients.extend(found.gradient);
        gradients.resize((index + 1) * width, 0.0);
    }
    let device = Default::default();
    let losses = Tensor::from_data(TensorData::new(losses, [num_groups]), (&device, FLOAT));
    let gradients = Tensor::from_data(TensorData::new(gradients, [num_groups, width]), (&device, FLOAT));
    // Zero with the right gradient.
    let change = (values.clone() - values.clone().detach()) * gradients;
    losses + change.sum_dim(1).squeeze_dim::<1>(1)
}

/// The values of a `[B, K]` tensor as one list per prompt, without absent responses.
pub(crate) fn numbers(groups: &ScoredGroups, values: Tensor<ObjectiveBackend, 2>) -> Vec<Vec<f64>> {
    let width = values.dims()[1];
    let all: Vec<f64> = values.into_data().iter::<f64>().collect();
    all.chunks(width).zip(groups.counts()).map(|(row, &count)| row[..count].to_vec()).collect()
}

/// log(1 + eˣ), finite for any finite x.
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// 1 / (1 + e⁻ˣ).
pub(crate) fn sigmoid(x: f64) -> f64 {
    // The exponential never overflows.
    let small = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) }
}

/// log(eˣ + eʸ); x may be −∞.
pub(crate) fn log_add(x: f64, y: f64) -> f64 {
    let (low, high) = if x < y { (x, y) } else { (y, x) };
    high + (low - high).exp().ln_1p()
}
