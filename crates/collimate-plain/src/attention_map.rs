//! The interface to a backend's attention over segments.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub use collimate_kernels::{AttentionShape, Segment};

use crate::dtype::{in_dtype, in_float32};

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

    /// [`AttentionMap::attend`] where the softmax of each head has one more score, its sink, whose value is zero; `sinks` is
    /// [1, H]. The log-sum-exp includes it, for every backend.
    fn attend_with_sinks(
        &self,
        shape: &AttentionShape,
        projections: [&Tensor<B, 2>; 3],
        sinks: &Tensor<B, 2>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let [q, k, v] = projections;
        let (out, lse) = self.attend(shape, q, k, v);
        with_sinks(out, lse, sinks)
    }

    /// [`AttentionMap::attend_backward`] of [`AttentionMap::attend_with_sinks`].
    ///
    /// A backward pass that reads output and log-sum-exp needs nothing else: the weights are `exp(score - lse)`, and the
    /// sink adds nothing to the product of the output and its gradient.
    fn attend_backward_with_sinks(
        &self,
        shape: &AttentionShape,
        saved: AttentionSaved<'_, B>,
        _sinks: &Tensor<B, 2>,
        d_out: &Tensor<B, 2>,
    ) -> [Tensor<B, 2>; 3] {
        self.attend_backward(shape, saved, d_out)
    }
}

/// Adds sinks, [1, H], to attention without them: its output, [N, H · head_dim], and log-sum-exp, [N, H].
fn with_sinks<B: Backend>(out: Tensor<B, 2>, lse: Tensor<B, 2>, sinks: &Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let ([rows, width], heads, dtype) = (out.dims(), lse.dims()[1], out.dtype());
    // ln(e^lse + e^sink), where neither exponential can overflow.
    let sinks = sinks.clone().expand([rows, heads]);
    let nearness = (lse.clone() - sinks.clone()).abs().neg().exp();
    let with_sinks = lse.clone().max_pair(sinks) + nearness.log1p();
    let share = (lse - with_sinks.clone()).exp().reshape([rows, heads, 1]);
    let out = in_float32(out).reshape([rows, heads, width / heads]) * share;
    (in_dtype(out.reshape([rows, width]), dtype), with_sinks)
}

/// The gradient of sinks, [1, H], given the output and the log-sum-exp with them, and the output's gradient.
pub fn sinks_backward<B: Backend>(
    sinks: &Tensor<B, 2>,
    out: &Tensor<B, 2>,
    lse: &Tensor<B, 2>,
    d_out: &Tensor<B, 2>,
) -> Tensor<B, 2> {
    let ([rows, width], heads) = (out.dims(), lse.dims()[1]);
    let products = in_float32(out.clone()) * in_float32(d_out.clone());
    let products = products.reshape([rows, heads, width / heads]).sum_dim(2).reshape([rows, heads]);
    let weights = (sinks.clone() - lse.clone()).exp();
    (weights * products).sum_dim(0).neg()
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
