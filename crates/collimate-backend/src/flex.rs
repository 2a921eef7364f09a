//! flex, burn's pure-Rust CPU backend, with the decoder's operations from `collimate-kernels`.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use burn_flex::{Flex, FlexDevice, FlexTensor};
use collimate_kernels as kernels;
use collimate_kernels::{AdamwStep, AttentionShape, DropoutRows, GateActivation, PackedWeight, Segment, TargetLogp};
use collimate_quantized::Format;

use crate::allocator;
use crate::attention_map::{AttentionMap, AttentionSaved};
use crate::devices::{FoundDevice, HasDevices, machine_memory};
use crate::dtype::ComputeDtype;
use crate::error::{BackendError, check_index};
use crate::operands::{Factor, Gradient, Moments, OutputLayer, Rotary};
use crate::ops::FusedOps;
use crate::packed::HostPacked;

impl HasDevices for Flex {
    const NAME: &'static str = "flex";

    fn found() -> Result<Vec<FoundDevice>, BackendError> {
        let threads = collimate_machine::cores();
        Ok(vec![FoundDevice {
            name: format!("CPU, {threads} {}", if threads == 1 { "thread" } else { "threads" }),
            memory: machine_memory(),
        }])
    }

    fn device(index: usize) -> Result<FlexDevice, BackendError> {
        check_index(Self::NAME, index, 1)?;
        allocator::keep_freed_memory();
        Ok(FlexDevice)
    }

    // The kernels are float32 only, whatever burn's own operations support.
    fn computes_in(_: &FlexDevice, dtype: ComputeDtype) -> bool {
        dtype == ComputeDtype::Float32
    }
}

type Matrix = Tensor<Flex, 2>;

/// The tensor in contiguous rows, for reading; copied only if it is a view.
fn rows_of(tensor: &Matrix) -> FlexTensor {
    owned(tensor.clone())
}

/// The tensor in contiguous rows, for writing: its own memory if nothing else holds it.
fn owned(tensor: Matrix) -> FlexTensor {
    let primitive = tensor.into_primitive().tensor();
    let contiguous = primitive.to_contiguous();
    drop(primitive);
    contiguous
}

fn matrix(values: Vec<f32>, shape: [usize; 2]) -> Matrix {
    wrap(FlexTensor::from_data(TensorData::new(values, shape)))
}

fn wrap(tensor: FlexTensor) -> Matrix {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// Updates a tensor in place.
fn change(tensor: Matrix, f: impl FnOnce(&mut [f32])) -> Matrix {
    let mut tensor = owned(tensor);
    f(tensor.storage_mut());
    wrap(tensor)
}

/// Updates a gradient in place, starting from zero.
fn add_to(gradient: &mut Gradient<Flex>, shape: [usize; 2], f: impl FnOnce(&mut [f32])) {
    let held = gradient.take().unwrap_or_else(|| matrix(vec![0.0; shape[0] * shape[1]], shape));
    *gradient = Some(change(held, f));
}

/// `factor` as the kernels read it, from `data`, its matrix in contiguous rows.
fn view<'a>(factor: &Factor<'_, Flex>, data: &'a FlexTensor) -> kernels::Matrix<'a> {
    let [rows, columns] = factor.dims();
    kernels::Matrix { data: data.storage(), rows, columns, transposed: factor.transposed }
}

/// `layer` as the kernels read it, from `weight`, its weight in contiguous rows.
fn output_layer<'a>(layer: &OutputLayer<'_, Flex>, weight: &'a FlexTensor) -> kernels::OutputLayer<'a> {
    kernels::OutputLayer { weight: weight.storage(), width: layer.weight.dims()[1], softcap: layer.softcap }
}

impl FusedOps for Flex {
    type Attention = Segments;
    type Packed = HostPacked;

    /// On a thread of rayon's pool: from outside, every operation would wake two threads and wait for both.
    fn run_pass<R: Send>(pass: impl FnOnce() -> R + Send) -> R {
        rayon::scope(|_| pass())
    }

    fn multiply(onto: Option<Matrix>, alpha: f32, a: Factor<'_, Self>, b: Factor<'_, Self>) -> Matrix {
        let (a_data, b_data) = (rows_of(a.matrix), rows_of(b.matrix));
        let (left, right) = (view(&a, &a_data), view(&b, &b_data));
        match onto {
            Some(onto) => change(onto, |out| kernels::multiply(out, true, alpha, left, right)),
            None => {
                let shape = [left.rows, right.columns];
                let mut out = vec![0.0; shape[0] * shape[1]];
                kernels::multiply(&mut out, false, alpha, left, right);
                matrix(out, shape)
            }
        }
    }

    fn multiply_packed(onto: Option<Matrix>, alpha: f32, x: &Matrix, weight: &HostPacked, backward: bool) -> Matrix {
        let ([rows, inner], x) = (x.dims(), rows_of(x));
        let x = kernels::Matrix::new(x.storage(), rows, inner);
        let multiply = |out: &mut [f32], accumulate| {
            kernels::multiply_packed(out, accumulate, alpha, x, weight, !backward);
            weight.release();
        };
        match onto {
            Some(onto) => change(onto, |out| multiply(out, true)),
            None => {
                let shape = [rows, if backward { weight.columns() } else { weight.rows() }];
                let mut out = vec![0.0; shape[0] * shape[1]];
                multiply(&mut out, false);
                matrix(out, shape)
            }
        }
    }

    /// A weight is unpacked by panels, in the processor's cache.
    fn unpacking_bytes(_: Option<Format>, _: ComputeDtype) -> u64 {
        0
    }

    fn add(x: Matrix, y: &Matrix) -> Matrix {
        let y = rows_of(y);
        change(x, |x| kernels::add_scaled(x, 1.0, y.storage()))
    }

    fn columns(x: &Matrix, columns: Range<usize>) -> Matrix {
        let ([rows, width], x) = (x.dims(), rows_of(x));
        let mut out = Vec::with_capacity(rows * columns.len());
        x.storage::<f32>().chunks_exact(width).for_each(|row| out.extend_from_slice(&row[columns.clone()]));
        matrix(out, [rows, columns.len()])
    }

    fn add_rows(x: Matrix, rows: &[u32], values: &Matrix) -> Matrix {
        let (values, width) = (rows_of(values), x.dims()[1]);
        change(x, |x| kernels::add_rows(x, width, rows, values.storage()))
    }

    fn rms_norm(x: &Matrix, weight: &Matrix, eps: f64) -> Matrix {
        let (shape, x, weight) = (x.dims(), rows_of(x), rows_of(weight));
        let mut out = vec![0.0; shape[0] * shape[1]];
        kernels::rms_norm(x.storage(), weight.storage(), eps as f32, &mut out);
        matrix(out, shape)
    }

    fn rms_norm_backward(
        x: &Matrix,
        weight: &Matrix,
        eps: f64,
        d_out: Matrix,
        d_weight: Option<&mut Gradient<Self>>,
    ) -> Matrix {
        let (shape, x, weight) = (weight.dims(), rows_of(x), rows_of(weight));
        let (x, weight, eps) = (x.storage(), weight.storage(), eps as f32);
        change(d_out, |d| match d_weight {
            Some(gradient) => {
                add_to(gradient, shape, |d_weight| kernels::rms_norm_backward(x, weight, eps, d, Some(d_weight)));
            }
            None => kernels::rms_norm_backward(x, weight, eps, d, None),
        })
    }

    fn rotate(x: Matrix, rotary: &Rotary<Self>, inverse: bool) -> Matrix {
        let (head_dim, rotary_dim) = (rotary.head_dim, 2 * rotary.cos.dims()[1]);
        let (cos, sin) = (rows_of(&rotary.cos), rows_of(&rotary.sin));
        change(x, |x| kernels::rotate(x, cos.storage(), sin.storage(), head_dim, rotary_dim, inverse))
    }

    fn gated(activation: GateActivation, gate: &Matrix, up: &Matrix) -> Matrix {
        let (shape, gate, up) = (gate.dims(), rows_of(gate), rows_of(up));
        let mut out = vec![0.0; shape[0] * shape[1]];
        kernels::gated(activation, gate.storage(), up.storage(), &mut out);
        matrix(out, shape)
    }

    fn gated_backward(activation: GateActivation, gate: Matrix, up: Matrix, d_out: &Matrix) -> (Matrix, Matrix) {
        let (mut gate, mut up, d_out) = (owned(gate), owned(up), rows_of(d_out));
        kernels::gated_backward(activation, gate.storage_mut(), up.storage_mut(), d_out.storage());
        (wrap(gate), wrap(up))
    }

    fn dropout(x: Matrix, rows: &[DropoutRows], probability: f64) -> Matrix {
        let width = x.dims()[1];
        change(x, |x| kernels::dropout(x, width, rows, probability))
    }

    fn target_logps(hidden: &Matrix, layer: OutputLayer<'_, Self>, targets: &[u32]) -> Vec<TargetLogp> {
        let (hidden, weight) = (rows_of(hidden), rows_of(layer.weight));
        kernels::target_logps(hidden.storage(), output_layer(&layer, &weight), targets)
    }

    fn target_logps_with_gradients(
        hidden: &Matrix,
        layer: OutputLayer<'_, Self>,
        targets: &[u32],
    ) -> (Vec<TargetLogp>, Matrix) {
        let (shape, hidden, weight) = (hidden.dims(), rows_of(hidden), rows_of(layer.weight));
        let layer = output_layer(&layer, &weight);
        let (logps, gradients) = kernels::target_logps_with_gradients(hidden.storage(), layer, targets);
        (logps, matrix(gradients, shape))
    }

    fn target_logps_backward(
        hidden: &Matrix,
        layer: OutputLayer<'_, Self>,
        targets: &[u32],
        forward: &[TargetLogp],
        coefficients: &[f32],
        d_weight: Option<&mut Gradient<Self>>,
    ) -> Matrix {
        let (shape, weight_shape) = (hidden.dims(), layer.weight.dims());
        let (hidden, weight) = (rows_of(hidden), rows_of(layer.weight));
        let (hidden, layer) = (hidden.storage::<f32>(), output_layer(&layer, &weight));
        let mut d_hidden = vec![0.0; shape[0] * shape[1]];
        let mut backward = |d_weight: Option<&mut [f32]>| {
            kernels::target_logps_backward(hidden, layer, targets, forward, coefficients, &mut d_hidden, d_weight);
        };
        match d_weight {
            Some(gradient) => add_to(gradient, weight_shape, |d| backward(Some(d))),
            None => backward(None),
        }
        matrix(d_hidden, shape)
    }

    fn adamw(
        parameter: Matrix,
        gradient: &Matrix,
        moments: Moments<Self>,
        step: &AdamwStep,
    ) -> (Matrix, Moments<Self>) {
        let (mut p, g) = (owned(parameter), rows_of(gradient));
        let (mut m, mut v) = (owned(moments.m), owned(moments.v));
        kernels::adamw(p.storage_mut(), g.storage(), m.storage_mut(), v.storage_mut(), step);
        (wrap(p), Moments { m: wrap(m), v: wrap(v) })
    }

    fn sum_of_squares(tensors: &[&Matrix]) -> f64 {
        tensors.iter().map(|x| kernels::sum_of_squares(rows_of(x).storage())).sum()
    }
}

/// The segments themselves, which the kernels read directly.
#[derive(Debug)]
pub struct Segments(Vec<Segment>);

impl AttentionMap<Flex> for Segments {
    fn new(segments: &[Segment], _: &AttentionShape, _: &[Option<usize>], _: &FlexDevice) -> Self {
        Self(segments.to_vec())
    }

    fn attend(&self, shape: &AttentionShape, q: &Matrix, k: &Matrix, v: &Matrix) -> (Matrix, Matrix) {
        let rows = q.dims()[0];
        let (q, k, v) = (rows_of(q), rows_of(k), rows_of(v));
        let mut out = vec![0.0; rows * shape.heads * shape.head_dim];
        let mut lse = vec![0.0; rows * shape.heads];
        kernels::attention(shape, &self.0, q.storage(), k.storage(), v.storage(), &mut out, &mut lse);
        (matrix(out, [rows, shape.heads * shape.head_dim]), matrix(lse, [rows, shape.heads]))
    }

    fn attend_backward(&self, shape: &AttentionShape, saved: AttentionSaved<'_, Flex>, d_out: &Matrix) -> [Matrix; 3] {
        let shapes = [saved.q.dims(), saved.k.dims(), saved.v.dims()];
        let [mut d_q, mut d_k, mut d_v] = shapes.map(|[rows, columns]| vec![0.0; rows * columns]);
        let [q, k, v, out, lse] = [saved.q, saved.k, saved.v, saved.out, saved.lse].map(rows_of);
        let held = kernels::AttentionSaved {
            q: q.storage(),
            k: k.storage(),
            v: v.storage(),
            out: out.storage(),
            lse: lse.storage(),
        };
        let d_out = rows_of(d_out);
        kernels::attention_backward(shape, &self.0, held, d_out.storage(), &mut d_q, &mut d_k, &mut d_v);
        [matrix(d_q, shapes[0]), matrix(d_k, shapes[1]), matrix(d_v, shapes[2])]
    }
}
