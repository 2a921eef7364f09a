//! The operations that a decoder's forward and backward passes are made of.
//!
//! Each has a plain form made of burn's operations ([`crate::plain`]), which is what a backend gets that has nothing
//! better, and the oracle of tests. A backend with kernels of its own overrides it.
//!
//! Backward operations are written out, not recorded: a pass knows what it keeps and adds each gradient where it
//! belongs, so no graph holds memory.

use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

pub use collimate_kernels::{AdamwStep, AttentionShape, DropoutRows, GateActivation, Segment, TargetLogp};

use crate::dtype::in_float32;
use crate::plain;

/// A gradient that is added to, in float32; `None` is zero.
pub type Gradient<B> = Option<Tensor<B, 2>>;

/// A factor of a matrix product.
#[derive(Debug, Clone, Copy)]
pub struct Factor<'a, B: Backend> {
    /// The matrix as it is stored.
    pub matrix: &'a Tensor<B, 2>,
    /// Whether its transpose is meant.
    pub transposed: bool,
}

impl<'a, B: Backend> Factor<'a, B> {
    /// The matrix itself.
    pub fn of(matrix: &'a Tensor<B, 2>) -> Self {
        Self { matrix, transposed: false }
    }

    /// Its transpose.
    pub fn transpose_of(matrix: &'a Tensor<B, 2>) -> Self {
        Self { matrix, transposed: true }
    }

    /// Rows and columns of the factor.
    pub fn dims(&self) -> [usize; 2] {
        let [rows, columns] = self.matrix.dims();
        if self.transposed { [columns, rows] } else { [rows, columns] }
    }
}

/// Cosines and sines of a pack's positions, each [N, rotary_dim / 2].
#[derive(Debug, Clone)]
pub struct Rotary<B: Backend> {
    /// Cosines.
    pub cos: Tensor<B, 2>,
    /// Sines.
    pub sin: Tensor<B, 2>,
    /// Numbers of a head, of which the first `rotary_dim` are rotated.
    pub head_dim: usize,
}

impl<B: Backend> Rotary<B> {
    /// From tables of `rows` rows.
    pub fn new(cos: Vec<f32>, sin: Vec<f32>, rows: usize, head_dim: usize, device: &B::Device) -> Self {
        let tensor = |values: Vec<f32>| {
            let half = values.len() / rows.max(1);
            Tensor::from_data(TensorData::new(values, [rows, half]), device)
        };
        Self { cos: tensor(cos), sin: tensor(sin), head_dim }
    }
}

/// The output layer: logits are `hidden · weightᵀ`, `weight` being [V, D].
#[derive(Debug)]
pub struct OutputLayer<'a, B: Backend> {
    /// [V, D].
    pub weight: &'a Tensor<B, 2>,
    /// Logits are squashed to `softcap · tanh(logit / softcap)`.
    pub softcap: Option<f32>,
}

// Not derived: that would ask for backends that can be copied.
impl<B: Backend> Clone for OutputLayer<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for OutputLayer<'_, B> {}

/// Who attends to whom in a pack, as a backend reads it: made once, for all layers and both ways.
pub trait AttentionPlan<B: Backend>: Sized {
    /// Every row of the pack is in exactly one segment's `rows`. `shape` is that of any layer, and `windows` are those that
    /// the layers have.
    fn new(segments: &[Segment], shape: &AttentionShape, windows: &[Option<usize>], device: &B::Device) -> Self;

    /// Attention of every segment: output [N, H · head_dim], and what [`AttentionSaved::lse`] is.
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

/// What going back through attention reads.
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
    /// Log-sum-exp of each row's scores, [N, H]; empty where the backend does not need it.
    pub lse: &'a Tensor<B, 2>,
}

// Not derived: as above.
impl<B: Backend> Clone for AttentionSaved<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for AttentionSaved<'_, B> {}

/// A burn backend with the operations of a decoder.
///
/// Matrices and activations are in the model's [`ComputeDtype`](crate::ComputeDtype); norms' weights, adapters' factors,
/// tables of rotation and gradients that are added to are in float32 always. What comes out has the type of what goes in.
pub trait FusedOps: Backend {
    /// Attention over the segments of a pack; [`plain::Tiles`] for a backend without kernels.
    type Attention: AttentionPlan<Self> + Send;

    /// Runs a whole pass where the backend's operations are quickest to start.
    fn run_pass<R: Send>(pass: impl FnOnce() -> R + Send) -> R {
        pass()
    }

    /// Rows that a pack of so many is computed with, no fewer: a backend that chooses kernels by shape wants few shapes.
    fn pack_rows(rows: usize) -> usize {
        rows
    }

    /// `onto + alpha · a · b`, [M, N], in the type of `onto`; without it in that of the factors, the narrower where they
    /// differ.
    fn multiply(
        onto: Option<Tensor<Self, 2>>,
        alpha: f32,
        a: Factor<'_, Self>,
        b: Factor<'_, Self>,
    ) -> Tensor<Self, 2> {
        plain::multiply(onto, alpha, a, b)
    }

    /// Adds `alpha · a · b` to a gradient.
    fn add_product(gradient: &mut Gradient<Self>, alpha: f32, a: Factor<'_, Self>, b: Factor<'_, Self>) {
        *gradient = Some(in_float32(Self::multiply(gradient.take(), alpha, a, b)));
    }

    /// `x + y`, of one shape, in the type of `x`.
    fn add(x: Tensor<Self, 2>, y: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        plain::sum(x, y.clone())
    }

    /// Some columns of `x`, in memory of their own: a view would hold all of them.
    fn columns(x: &Tensor<Self, 2>, columns: Range<usize>) -> Tensor<Self, 2> {
        x.clone().narrow(1, columns.start, columns.len())
    }

    /// Adds row m of `values` [M, D] to row `rows[m]` of `x` [N, D]; rows may repeat.
    fn add_rows(x: Tensor<Self, 2>, rows: &[u32], values: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        plain::add_rows(x, rows, values)
    }

    /// RMSNorm of every `n` numbers of a row, `weight` being [1, n]: with n of the row's width, or of a head's.
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

    /// Rotates the halves of what is rotated of each head by the position's angle, or back.
    fn rotate(x: Tensor<Self, 2>, rotary: &Rotary<Self>, inverse: bool) -> Tensor<Self, 2> {
        plain::rotate(x, rotary, inverse)
    }

    /// `activation(gate) · up`.
    fn gated(activation: GateActivation, gate: &Tensor<Self, 2>, up: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        plain::gated(activation, gate.clone(), up.clone())
    }

    /// Gradients of gate and up.
    fn gated_backward(
        activation: GateActivation,
        gate: Tensor<Self, 2>,
        up: Tensor<Self, 2>,
        d_out: &Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        plain::gated_backward(activation, gate, up, d_out)
    }

    /// Zeroes numbers of `x` at random and scales the rest up; the same rows give the same draws.
    fn dropout(x: Tensor<Self, 2>, rows: &[DropoutRows], probability: f64) -> Tensor<Self, 2> {
        plain::dropout(x, rows, probability)
    }

    /// Log-probs of `targets` \[M\] under the softmax of the layer's logits, `hidden` being [M, D].
    fn target_logps(hidden: &Tensor<Self, 2>, layer: OutputLayer<'_, Self>, targets: &[u32]) -> Vec<TargetLogp> {
        plain::target_logps(hidden, layer, targets)
    }

    /// The log-probs of [`FusedOps::target_logps`], and of each its gradient with respect to its row of `hidden`, [M, D].
    ///
    /// With a weight that is not trained nothing else is needed to go back.
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

    /// AdamW's update of a parameter and its two moments, given its gradient.
    fn adamw(
        parameter: Tensor<Self, 2>,
        gradient: &Tensor<Self, 2>,
        moments: (Tensor<Self, 2>, Tensor<Self, 2>),
        step: &AdamwStep,
    ) -> (Tensor<Self, 2>, (Tensor<Self, 2>, Tensor<Self, 2>)) {
        plain::adamw(parameter, gradient, moments, step)
    }

    /// Sum of squares of all numbers, in float64 from float32 partial sums; a device is waited for once.
    fn sum_of_squares(tensors: &[&Tensor<Self, 2>]) -> f64 {
        plain::sum_of_squares(tensors)
    }
}
