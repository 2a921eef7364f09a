//! What the backward pass of a block's first half is given.

use burn::tensor::Tensor;
use collimate_backend::FusedOps;

use super::PackInputs;

/// What the backward pass of a block's first half is given.
pub(super) struct FirstHalf<'a, B: FusedOps, F> {
    /// The gradient of the output projection's input.
    pub(super) d_mixed: Tensor<B, 2>,
    /// Recomputes the normed input.
    pub(super) h: F,
    pub(super) pack: &'a PackInputs<B>,
    /// Whether the gradient of the normed input is wanted.
    pub(super) wants_input: bool,
}
