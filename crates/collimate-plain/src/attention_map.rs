//! The interface to a backend's attention over segments.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub use collimate_kernels::{AttentionShape, Segment};

/// What attends to what in a pack, prepared by the backend once for all layers and both passes.
pub trait AttentionMap<B: Backend>: Sized {
    /// Prepares `segments`; every row of the pack is in the `rows` of exactly one.
    ///
    /// `shape` may be any layer's; `windows` lists those of all layers.
    fn new(segments: &[Segment], shape: &AttentionShape, windows: &[Option<usize>], device: &B::Device) -> Self;

    /// Attention forward: the output, [N, H · head_dim], and [`AttentionSaved::lse`].
    ///
    /// `q` is [N, H · head_dim], `k` and `v` are [N, H_kv · head_dim].
    fn attend(
        &self,
        shape: &AttentionShape,
        q: &Tensor<B, 2>,
        k: &Tensor<B, 2>,
        v: &Tensor<B, 2>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>);

    /// Gradients of queries, keys and values, given that of the output.
    fn attend_backward(
        &self,
        shape: &AttentionShape,
        saved: AttentionSaved<'_, B>,
        d_out: &Tensor<B, 2>,
    ) -> [Tensor<B, 2>; 3];
}

/// What the backward pass of attention reads.
#[derive(Debug)]
pub struct AttentionSaved<'a, B: Backend> {
    /// Queries, [N, H · head_dim].
    pub q: &'a Tensor<B, 2>,
    /// Keys, [N, H_kv · head_dim].
    pub k: &'a Tensor<B, 2>,
    /// Values, [N, H_kv · head_dim].
    pub v: &'a Tensor<B, 2>,
    /// The output, [N, H · head_dim].
    pub out: &'a Tensor<B, 2>,
    /// Log-sum-exp of each row's scores, [N, H]; empty for backends that do not need it.
    pub lse: &'a Tensor<B, 2>,
}

// Written out because `derive` would require `B: Copy`.
impl<B: Backend> Clone for AttentionSaved<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for AttentionSaved<'_, B> {}
