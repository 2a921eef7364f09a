//! The operations that make up a decoder's forward and backward passes.
//!
//! Each defaults to its plain form ([`crate::plain`]); a backend overrides those it has kernels for.
//!
//! Backward operations are explicit rather than recorded on a tape: a pass knows what it saves and accumulates each
//! gradient in place, so no graph keeps activations alive.

use std::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use collimate_quantized::Format;

use crate::attention_map::{AttentionMap, Segment};
use crate::dtype::{ComputeDtype, in_dtype, in_float32};
use crate::operands::{
    AdamwStep, DeltaInputs, DeltaShape, DropoutRows, Factor, GateActivation, Gradient, Moments, OutputLayer, Rotary,
    TargetLogp,
};
use crate::packed::PackedTensor;
use crate::plain;

/// Bytes of a plain weight that products read in an order of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreparedBytes {
    /// While it is held.
    pub held: u64,
    /// During a product, at most.
    pub rearranged: u64,
}

/// A burn backend with a decoder's operations.
///
/// Matrices and activations are in the model's [`ComputeDtype`](crate::ComputeDtype); norm weights, adapter factors,
/// rotation tables and accumulated gradients are always float32. An output has the dtype of its input.
pub trait FusedOps: Backend {
    /// Attention over the segments of a pack; [`plain::Tiles`] for a backend without kernels.
    type Attention: AttentionMap<Self> + Send;

    /// A packed weight as products read it; [`HostPacked`](crate::HostPacked) for a backend without kernels.
    type Packed: PackedTensor<Self>;

    /// Runs a whole pass on the thread where the backend launches operations fastest.
    fn run_pass<R: Send>(pass: impl FnOnce() -> R + Send) -> R {
        pass()
    }

    /// `work` of each item, in the items' order, where each is enough for a thread: several at once, if a backend computes on
    /// the host's threads.
    fn each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
        items.into_iter().map(work).collect()
    }

    /// Number of rows to pad a pack to, at least `rows`; keeps the number of distinct kernel shapes small.
    fn pack_rows(rows: usize) -> usize {
        rows
    }

    /// `onto + alpha · a · b`, [M, N].
    ///
    /// The result has the dtype of `onto`; without `onto`, that of the factors, the narrower if they differ.
    fn multiply(
        onto: Option<Tensor<Self, 2>>,
        alpha: f32,
        a: Factor<'_, Self>,
        b: Factor<'_, Self>,
    ) -> Tensor<Self, 2> {
        plain::multiply(onto, alpha, a, b)
    }

    /// `onto + alpha · x · Wᵀ` of a packed weight W [out, in] or, with `backward`, `onto + alpha · x · W`.
    ///
    /// The dtype is as in [`FusedOps::multiply`], with W in the dtype of `x` or, if it was prepared, in that which it was prepared in.
    fn multiply_packed(
        onto: Option<Tensor<Self, 2>>,
        alpha: f32,
        x: &Tensor<Self, 2>,
        weight: &Self::Packed,
        backward: bool,
    ) -> Tensor<Self, 2> {
        plain::multiply_packed(onto, alpha, x, weight, backward)
    }

    /// A weight [out, in] in the order in which [`FusedOps::multiply_packed`] reads it, if products in `dtype` have one of their own;
    /// the numbers are rounded to `dtype`.
    fn prepare(_weight: Factor<'_, Self>, _dtype: ComputeDtype) -> Option<Self::Packed> {
        None
    }

    /// Bytes for each number of a weight that [`FusedOps::multiply_packed`] takes on the device to unpack it, in a run that
    /// computes in `dtype`; without a format the weight is of plain numbers in a file.
    fn unpacking_bytes(_format: Option<Format>, dtype: ComputeDtype) -> u64 {
        plain::unpacking_bytes(dtype)
    }

    /// Bytes of a weight of this shape that [`FusedOps::prepare`] makes in `dtype`, if it does.
    fn prepared_bytes(_shape: [usize; 2], _dtype: ComputeDtype) -> Option<PreparedBytes> {
        None
    }

    /// Adds `alpha · a · b` to a gradient.
    fn add_product(gradient: &mut Gradient<Self>, alpha: f32, a: Factor<'_, Self>, b: Factor<'_, Self>) {
        *gradient = Some(in_float32(Self::multiply(gradient.take(), alpha, a, b)));
    }

    /// `x` in `dtype`, each number rounded once, to the nearest.
    fn in_dtype(x: Tensor<Self, 2>, dtype: ComputeDtype) -> Tensor<Self, 2> {
        in_dtype(x, dtype.burn_dtype())
    }

    /// `x + y`, of equal shape, in the dtype of `x`.
    fn add(x: Tensor<Self, 2>, y: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        plain::sum(x, y.clone())
    }

    /// A range of the columns of `x`, copied if a view would keep all of `x` alive.
    fn columns(x: &Tensor<Self, 2>, columns: Range<usize>) -> Tensor<Self, 2> {
        x.clone().narrow(1, columns.start, columns.len())
    }

    /// Adds row m of `values` [M, D] to row `rows[m]` of `x` [N, D]; rows may repeat.
    fn add_rows(x: Tensor<Self, 2>, rows: &[u32], values: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        plain::add_rows(x, rows, values)
    }

    /// RMSNorm over each `n` consecutive columns, where `weight` is [1, n]: n is the width of a row or of a head.
    fn rms_norm(x: &Tensor<Self, 2>, weight: &Tensor<Self, 2>, eps: f64) -> Tensor<Self, 2> {
        plain::rms_norm(x.clone(), weight.clone(), eps)
    }

    /// The gradient of the norm's input, given that of its output; adds the weight's to `d_weight`.
    fn rms_norm_backward(
        x: &Tensor<Self, 2>,
        weight: &Tensor<Self, 2>,
        eps: f64,
        d_out: Tensor<Self, 2>,
        d_weight: Option<&mut Gradient<Self>>,
    ) -> Tensor<Self, 2> {
        plain::rms_norm_backward(x, weight, eps, d_out, d_weight)
    }

    /// Rotary position embedding: rotates the two halves of each head's rotated columns by the position's angle, or by
    /// the opposite angle if `inverse`.
    fn rotate(x: Tensor<Self, 2>, rotary: &Rotary<Self>, inverse: bool) -> Tensor<Self, 2> {
        plain::rotate(x, rotary, inverse)
    }

    /// `activation(gate) · up`.
    fn gated(activation: GateActivation, gate: &Tensor<Self, 2>, up: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        plain::gated(activation, gate.clone(), up.clone())
    }

    /// Gradients of `gate` and `up`.
    fn gated_backward(
        activation: GateActivation,
        gate: Tensor<Self, 2>,
        up: Tensor<Self, 2>,
        d_out: &Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        plain::gated_backward(activation, gate, up, d_out)
    }

    /// `silu(Σ_t weight[·, t] · x[row − taps + 1 + t])` over sequences of rows; `x` is [N, C] and `weight`, [C, taps], one row.
    fn convolution(x: &Tensor<Self, 2>, weight: &Tensor<Self, 2>, segments: &[Segment]) -> Tensor<Self, 2> {
        plain::convolution(x.clone(), weight.clone(), segments)
    }

    /// The gradient of the convolution's input, given that of its output; adds the weight's to `d_weight`.
    fn convolution_backward(
        x: &Tensor<Self, 2>,
        weight: &Tensor<Self, 2>,
        segments: &[Segment],
        d_out: &Tensor<Self, 2>,
        d_weight: Option<&mut Gradient<Self>>,
    ) -> Tensor<Self, 2> {
        plain::convolution_backward(x, weight, segments, d_out, d_weight)
    }

    /// The gated delta rule, [N, value_heads · value_dim]: a response goes on from its prompt's final state.
    fn delta_rule(shape: &DeltaShape, segments: &[Segment], inputs: DeltaInputs<'_, Self>) -> Tensor<Self, 2> {
        plain::chunked_delta_rule(shape, segments, [inputs.qkv, inputs.decay, inputs.beta].map(Clone::clone))
    }

    /// Gradients of [`DeltaInputs`], in their order, given that of the output.
    fn delta_rule_backward(
        shape: &DeltaShape,
        segments: &[Segment],
        inputs: DeltaInputs<'_, Self>,
        d_out: &Tensor<Self, 2>,
    ) -> [Tensor<Self, 2>; 3] {
        plain::chunked_delta_rule_backward(shape, segments, inputs, d_out)
    }

    /// The state after each segment without a context, [segments · value_heads, key_dim, value_dim], in float32.
    fn delta_states(shape: &DeltaShape, segments: &[Segment], inputs: DeltaInputs<'_, Self>) -> Tensor<Self, 3> {
        plain::chunked_delta_states(shape, segments, inputs)
    }

    /// Inverted dropout: zeroes entries at random and scales the rest up. The same `rows` give the same draws.
    fn dropout(x: Tensor<Self, 2>, rows: &[DropoutRows], probability: f64) -> Tensor<Self, 2> {
        plain::dropout(x, rows, probability)
    }

    /// Log-probs of `targets` \[M\] under the softmax of the layer's logits, where `hidden` is [M, D].
    fn target_logps(hidden: &Tensor<Self, 2>, layer: OutputLayer<'_, Self>, targets: &[u32]) -> Vec<TargetLogp> {
        plain::target_logps(hidden, layer, targets)
    }

    /// [`FusedOps::target_logps`], with the gradient of each log-prob with respect to its row of `hidden`, [M, D].
    ///
    /// If the weight is not trained, the backward pass needs nothing else.
    fn target_logps_with_gradients(
        hidden: &Tensor<Self, 2>,
        layer: OutputLayer<'_, Self>,
        targets: &[u32],
    ) -> (Vec<TargetLogp>, Tensor<Self, 2>) {
        let logps = Self::target_logps(hidden, layer, targets);
        let ones = vec![1.0; targets.len()];
        let gradients = Self::target_logps_backward(hidden, layer, targets, &logps, &ones, None);
        (logps, gradients)
    }

    /// Gradient of `Σ_m coefficients[m] · logp[m]` with respect to `hidden`; adds the weight's to `d_weight`.
    fn target_logps_backward(
        hidden: &Tensor<Self, 2>,
        layer: OutputLayer<'_, Self>,
        targets: &[u32],
        forward: &[TargetLogp],
        coefficients: &[f32],
        d_weight: Option<&mut Gradient<Self>>,
    ) -> Tensor<Self, 2> {
        plain::target_logps_backward(hidden, layer, targets, forward, coefficients, d_weight)
    }

    /// AdamW's update of a parameter and its moments, given its gradient.
    fn adamw(
        parameter: Tensor<Self, 2>,
        gradient: &Tensor<Self, 2>,
        moments: Moments<Self>,
        step: &AdamwStep,
    ) -> (Tensor<Self, 2>, Moments<Self>) {
        plain::adamw(parameter, gradient, moments, step)
    }

    /// Sum of squares over all tensors, in float64 from float32 partial sums; synchronizes with the device once.
    fn sum_of_squares(tensors: &[&Tensor<Self, 2>]) -> f64 {
        plain::sum_of_squares(tensors)
    }
}
