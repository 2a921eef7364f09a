//! The plain form of a decoder's operations, built from burn's: the default for backends without kernels, and the oracle
//! of the kernels' tests.
//!
//! Gradients come from burn's automatic differentiation of the forward form, so they share nothing with the kernels.
//!
//! Products have the dtype of their factors, bfloat16 if either does. Everything else is computed in float32 and rounded
//! once, to the dtype of its input; float32 tensors are never converted.

mod attention;
mod convolution;
mod delta;
mod delta_chunks;
pub mod target_logps;

use burn::backend::Autodiff;
use burn::tensor::activation::{gelu, sigmoid, tanh};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, IndexingUpdateOp, Int, Tensor, TensorData};
use collimate_kernels::dropout_mask;

pub use self::attention::Tiles;
pub use self::convolution::{convolution, convolution_backward};
pub use self::delta::{DeltaToken, delta_rule, delta_rule_backward, delta_states};
pub use self::delta_chunks::{chunked_delta_rule, chunked_delta_rule_backward, chunked_delta_states};
pub use self::target_logps::{target_logps, target_logps_backward};
use crate::dtype::{ComputeDtype, in_dtype, in_float32};
use crate::operands::{AdamwStep, DropoutRows, Factor, GateActivation, Gradient, Moments, Rotary};
use crate::packed::PackedTensor;

/// `FusedOps::multiply`.
pub fn multiply<B: Backend>(
    onto: Option<Tensor<B, 2>>,
    alpha: f32,
    a: Factor<'_, B>,
    b: Factor<'_, B>,
) -> Tensor<B, 2> {
    let read = |factor: Factor<'_, B>| match factor.transposed {
        true => factor.matrix.clone().transpose(),
        false => factor.matrix.clone(),
    };
    let (a, b) = (read(a), read(b));
    let dtype = if a.dtype() == DType::F32 { b.dtype() } else { a.dtype() };
    let product = in_dtype(a, dtype).matmul(in_dtype(b, dtype));
    // Different dtypes are added in float32.
    let product = match &onto {
        Some(onto) if onto.dtype() != dtype => in_float32(product),
        _ => product,
    };
    let product = if alpha == 1.0 { product } else { product.mul_scalar(alpha) };
    match onto {
        Some(onto) => sum(onto, product),
        None => product,
    }
}

/// `FusedOps::multiply_packed`.
pub fn multiply_packed<B: Backend, P: PackedTensor<B>>(
    onto: Option<Tensor<B, 2>>,
    alpha: f32,
    x: &Tensor<B, 2>,
    weight: &P,
    backward: bool,
) -> Tensor<B, 2> {
    let unpacked = weight.unpack_in(x.dtype(), &x.device());
    let factor = if backward { Factor::new(&unpacked) } else { Factor::transpose_of(&unpacked) };
    multiply(onto, alpha, Factor::new(x), factor)
}

/// `FusedOps::unpacking_bytes`: a matrix in float32, and what it is rounded to.
pub fn unpacking_bytes(dtype: ComputeDtype) -> u64 {
    let float32 = ComputeDtype::Float32.num_bytes();
    float32 + if dtype == ComputeDtype::Float32 { 0 } else { dtype.num_bytes() }
}

/// `x + y` in the dtype of `x`.
pub fn sum<B: Backend>(x: Tensor<B, 2>, y: Tensor<B, 2>) -> Tensor<B, 2> {
    let dtype = x.dtype();
    if dtype == y.dtype() { x + y } else { in_dtype(in_float32(x) + in_float32(y), dtype) }
}

/// `FusedOps::add_rows`.
pub fn add_rows<B: Backend>(x: Tensor<B, 2>, rows: &[u32], values: &Tensor<B, 2>) -> Tensor<B, 2> {
    let rows = indices(rows, &x.device());
    let values = in_dtype(values.clone(), x.dtype());
    x.select_assign(0, rows, values, IndexingUpdateOp::Add)
}

/// `FusedOps::rms_norm`.
pub fn rms_norm<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 2>, eps: f64) -> Tensor<B, 2> {
    let [rows, width] = x.dims();
    let (n, dtype) = (weight.dims()[1], x.dtype());
    let x = in_float32(x).reshape([rows * width / n, n]);
    let mean_square = (x.clone() * x.clone()).mean_dim(1);
    in_dtype((x * mean_square.add_scalar(eps).sqrt().recip() * weight).reshape([rows, width]), dtype)
}

/// `FusedOps::rms_norm_backward`.
pub fn rms_norm_backward<B: Backend>(
    x: &Tensor<B, 2>,
    weight: &Tensor<B, 2>,
    eps: f64,
    d_out: Tensor<B, 2>,
    d_weight: Option<&mut Gradient<B>>,
) -> Tensor<B, 2> {
    let [d_x, d_w] = gradients([x, weight], &d_out, |[x, weight]| rms_norm(x, weight, eps));
    if let Some(gradient) = d_weight {
        accumulate(gradient, d_w);
    }
    d_x
}

/// `FusedOps::rotate`.
pub fn rotate<B: Backend>(x: Tensor<B, 2>, rotary: &Rotary<B>, inverse: bool) -> Tensor<B, 2> {
    let [rows, width] = x.dims();
    let (half, head_dim) = (rotary.cos.dims()[1], rotary.head_dim);
    let cos = rotary.cos.clone().unsqueeze_dim::<3>(1);
    let sin = rotary.sin.clone().unsqueeze_dim::<3>(1);
    let sin = if inverse { sin.neg() } else { sin };
    let dtype = x.dtype();
    let x = in_float32(x).reshape([rows, width / head_dim, head_dim]);
    let (a, b) = (x.clone().narrow(2, 0, half), x.clone().narrow(2, half, half));
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    let second = b * cos + a * sin;
    let kept = (2 * half < head_dim).then(|| x.narrow(2, 2 * half, head_dim - 2 * half));
    let parts = [Some(first), Some(second), kept];
    in_dtype(Tensor::cat(parts.into_iter().flatten().collect(), 2).reshape([rows, width]), dtype)
}

/// `FusedOps::gated`.
pub fn gated<B: Backend>(activation: GateActivation, gate: Tensor<B, 2>, up: Tensor<B, 2>) -> Tensor<B, 2> {
    let dtype = gate.dtype();
    let (gate, up) = (in_float32(gate), in_float32(up));
    let gate = match activation {
        GateActivation::Silu => gate.clone() * sigmoid(gate),
        GateActivation::Gelu => gelu(gate),
        GateActivation::GeluTanh => gelu_tanh(gate),
        GateActivation::Sigmoid => sigmoid(gate),
    };
    in_dtype(gate * up, dtype)
}

/// `FusedOps::gated_backward`.
pub fn gated_backward<B: Backend>(
    activation: GateActivation,
    gate: Tensor<B, 2>,
    up: Tensor<B, 2>,
    d_out: &Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let [d_gate, d_up] = gradients([&gate, &up], d_out, |[gate, up]| gated(activation, gate, up));
    (d_gate, d_up)
}

/// `FusedOps::dropout`.
pub fn dropout<B: Backend>(x: Tensor<B, 2>, rows: &[DropoutRows], probability: f64) -> Tensor<B, 2> {
    let [num_rows, width] = x.dims();
    let mask = dropout_mask(num_rows, width, rows, probability);
    let mask = Tensor::from_data(TensorData::new(mask, [num_rows, width]), &x.device());
    let dtype = x.dtype();
    in_dtype(in_float32(x) * mask, dtype)
}

/// `FusedOps::adamw`.
pub fn adamw<B: Backend>(
    parameter: Tensor<B, 2>,
    gradient: &Tensor<B, 2>,
    moments: Moments<B>,
    step: &AdamwStep,
) -> (Tensor<B, 2>, Moments<B>) {
    let Moments { m, v } = moments;
    let gradient = gradient.clone().mul_scalar(step.gradient_scale);
    let m = m.mul_scalar(step.beta1) + gradient.clone().mul_scalar(1.0 - step.beta1);
    let v = v.mul_scalar(step.beta2) + gradient.clone().mul(gradient).mul_scalar(1.0 - step.beta2);
    let denominator = v.clone().sqrt().div_scalar(step.correction).add_scalar(step.epsilon);
    let parameter = parameter.mul_scalar(step.decay) - (m.clone() / denominator).mul_scalar(step.step_size);
    (parameter, Moments { m, v })
}

/// `FusedOps::sum_of_squares`.
pub fn sum_of_squares<B: Backend>(tensors: &[&Tensor<B, 2>]) -> f64 {
    let by_row = tensors.iter().map(|&x| {
        let x = in_float32(x.clone());
        (x.clone() * x).sum_dim(1)
    });
    let by_row: Vec<_> = by_row.collect();
    if by_row.is_empty() { 0.0 } else { Tensor::cat(by_row, 0).into_data().iter::<f64>().sum() }
}

/// Gradients of `f`'s inputs, given that of its output, each in the dtype of its input.
fn gradients<B: Backend, const N: usize>(
    inputs: [&Tensor<B, 2>; N],
    d_out: &Tensor<B, 2>,
    f: impl Fn([Tensor<Autodiff<B>, 2>; N]) -> Tensor<Autodiff<B>, 2>,
) -> [Tensor<B, 2>; N] {
    let tracked = inputs.map(|input| Tensor::<Autodiff<B>, 2>::from_inner(input.clone()).require_grad());
    let out = in_float32(f(tracked.clone()));
    let grads = (out * Tensor::from_inner(in_float32(d_out.clone()))).sum().backward();
    tracked.map(|input| input.grad(&grads).unwrap_or_else(|| input.inner().zeros_like()))
}

/// Adds a term to a gradient, in float32.
pub fn accumulate<B: Backend>(gradient: &mut Gradient<B>, term: Tensor<B, 2>) {
    let term = in_float32(term);
    *gradient = Some(match gradient.take() {
        Some(sum) => sum + term,
        None => term,
    });
}

fn indices<B: Backend>(rows: &[u32], device: &B::Device) -> Tensor<B, 1, Int> {
    let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let len = rows.len();
    Tensor::from_data(TensorData::new(rows, [len]), device)
}

fn gelu_tanh<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let cubic = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cubic.mul_scalar(0.044715)).mul_scalar((2.0 / std::f64::consts::PI).sqrt());
    x.mul_scalar(0.5) * tanh(inner).add_scalar(1.0)
}
