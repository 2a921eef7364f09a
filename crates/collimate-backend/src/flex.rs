//! flex, burn's pure-Rust CPU backend, with the decoder's operations from `collimate-kernels`.

mod attention;
mod delta;
mod products;
mod tensors;

use std::ops::Range;

use burn::tensor::{DType, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice, FlexTensor};
use collimate_kernels as kernels;
use collimate_kernels::{AdamwStep, DropoutRows, GateActivation, MatmulPrecision, TargetLogp};
use collimate_quantized::Format;
use rayon::prelude::*;

use self::attention::Segments;
use self::tensors::{Matrix, add_to, change, filled, owned, rows_of, with_numbers, wrap, zeros};
use crate::attention_map::Segment;
use crate::devices::{FoundDevice, HasDevices, machine_memory};
use crate::dtype::{ComputeDtype, in_dtype};
use crate::error::{BackendError, check_index};
use crate::operands::{DeltaInputs, DeltaShape, Factor, Gradient, Moments, OutputLayer, Rotary};
use crate::ops::{FusedOps, PreparedBytes};
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
        collimate_machine::keep_freed_memory();
        Ok(FlexDevice)
    }

    fn multiplies_in(dtype: ComputeDtype) -> bool {
        match dtype {
            ComputeDtype::Float32 => true,
            ComputeDtype::Bfloat16 => kernels::bfloat16_products().is_some(),
        }
    }

    fn matmul_precision(precision: MatmulPrecision) -> Option<MatmulPrecision> {
        Some(precision.on_this_processor())
    }
}

/// `layer` as the kernels read it, from `weight`, its weight in contiguous rows.
fn output_layer<'a, T>(layer: &OutputLayer<'_, Flex>, weight: &'a [T]) -> kernels::OutputLayer<'a, T> {
    kernels::OutputLayer { weight, width: layer.weight.dims()[1], softcap: layer.softcap }
}

impl FusedOps for Flex {
    type Attention = Segments;
    type Packed = HostPacked;

    /// On a thread of rayon's pool: from outside, every operation would wake two threads and wait for both.
    fn run_pass<R: Send>(pass: impl FnOnce() -> R + Send) -> R {
        rayon::scope(|_| pass())
    }

    /// On several threads: operations on few rows would each wake them and wait for them.
    fn each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
        items.into_par_iter().map(work).collect()
    }

    fn multiply(onto: Option<Matrix>, alpha: f32, a: Factor<'_, Self>, b: Factor<'_, Self>) -> Matrix {
        products::multiply(onto, alpha, a, b)
    }

    fn multiply_packed(onto: Option<Matrix>, alpha: f32, x: &Matrix, weight: &HostPacked, backward: bool) -> Matrix {
        products::multiply_packed(onto, alpha, x, weight, backward)
    }

    /// In tiles, where the processor multiplies them. Elsewhere a plain weight is as fast.
    fn prepare(weight: Factor<'_, Self>, dtype: ComputeDtype) -> Option<HostPacked> {
        products::has_tiles(dtype).then(|| products::prepared(weight))
    }

    fn prepared_bytes([rows, columns]: [usize; 2], dtype: ComputeDtype) -> Option<PreparedBytes> {
        let [held, rearranged] = kernels::packed_bfloat16_bytes(rows, columns).map(|bytes| bytes as u64);
        products::has_tiles(dtype).then_some(PreparedBytes { held, rearranged })
    }

    /// The first product is in float32 too.
    fn add_product(gradient: &mut Gradient<Self>, alpha: f32, a: Factor<'_, Self>, b: Factor<'_, Self>) {
        *gradient = Some(products::multiply_in(DType::F32, gradient.take(), alpha, a, b));
    }

    /// A weight is unpacked by panels, in the processor's cache.
    fn unpacking_bytes(_: Option<Format>, _: ComputeDtype) -> u64 {
        0
    }

    /// burn's conversion goes through float64, of which it then reads the upper half only: it may take a number for a tie.
    fn in_dtype(x: Matrix, dtype: ComputeDtype) -> Matrix {
        match (x.dtype(), dtype) {
            (DType::F32, ComputeDtype::Bfloat16) => wrap(products::rounded(&x)),
            _ => in_dtype(x, dtype.burn_dtype()),
        }
    }

    fn add(x: Matrix, y: &Matrix) -> Matrix {
        let (dtype, y) = (x.dtype(), rows_of(y));
        change(x, |x| {
            with_numbers!(dtype, X => with_numbers!(y.dtype(), Y => {
                kernels::add_scaled(x.storage_mut::<X>(), 1.0, y.storage::<Y>());
            }));
        })
    }

    fn columns(x: &Matrix, columns: Range<usize>) -> Matrix {
        let ([rows, width], x) = (x.dims(), rows_of(x));
        filled(x.dtype(), [rows, columns.len()], |out| {
            with_numbers!(x.dtype(), T => {
                let to = out.storage_mut::<T>().chunks_exact_mut(columns.len().max(1));
                to.zip(x.storage::<T>().chunks_exact(width)).for_each(|(to, row)| to.copy_from_slice(&row[columns.clone()]));
            });
        })
    }

    fn add_rows(x: Matrix, rows: &[u32], values: &Matrix) -> Matrix {
        let (dtype, width, values) = (x.dtype(), x.dims()[1], rows_of(values));
        change(x, |x| {
            with_numbers!(dtype, X => with_numbers!(values.dtype(), V => {
                kernels::add_rows(x.storage_mut::<X>(), width, rows, values.storage::<V>());
            }));
        })
    }

    fn rms_norm(x: &Matrix, weight: &Matrix, eps: f64) -> Matrix {
        let (shape, x, weight) = (x.dims(), rows_of(x), rows_of(weight));
        filled(x.dtype(), shape, |out| {
            with_numbers!(x.dtype(), T => {
                kernels::rms_norm::<T>(x.storage(), weight.storage(), eps as f32, out.storage_mut());
            });
        })
    }

    fn rms_norm_backward(
        x: &Matrix,
        weight: &Matrix,
        eps: f64,
        d_out: Matrix,
        d_weight: Option<&mut Gradient<Self>>,
    ) -> Matrix {
        let (shape, x, weight, d_dtype) = (weight.dims(), rows_of(x), rows_of(weight), d_out.dtype());
        let (weight, eps) = (weight.storage(), eps as f32);
        let d_x = change(d_out, |d| {
            let mut backward = |d_weight: Option<&mut [f32]>| {
                with_numbers!(x.dtype(), X => with_numbers!(d_dtype, D => {
                    kernels::rms_norm_backward(x.storage::<X>(), weight, eps, d.storage_mut::<D>(), d_weight);
                }));
            };
            match d_weight {
                Some(gradient) => add_to(gradient, shape, |d_weight| backward(Some(d_weight))),
                None => backward(None),
            }
        });
        in_dtype(d_x, x.dtype())
    }

    fn rotate(x: Matrix, rotary: &Rotary<Self>, inverse: bool) -> Matrix {
        let (head_dim, rotary_dim) = (rotary.head_dim, 2 * rotary.cos.dims()[1]);
        let (dtype, cos, sin) = (x.dtype(), rows_of(&rotary.cos), rows_of(&rotary.sin));
        change(x, |x| {
            with_numbers!(dtype, T => {
                let x = x.storage_mut::<T>();
                kernels::rotate(x, cos.storage(), sin.storage(), head_dim, rotary_dim, inverse);
            });
        })
    }

    fn gated(activation: GateActivation, gate: &Matrix, up: &Matrix) -> Matrix {
        let (shape, gate, up) = (gate.dims(), rows_of(gate), rows_of(up));
        filled(gate.dtype(), shape, |out| {
            with_numbers!(gate.dtype(), T => {
                kernels::gated::<T>(activation, gate.storage(), up.storage(), out.storage_mut());
            });
        })
    }

    fn gated_backward(activation: GateActivation, gate: Matrix, up: Matrix, d_out: &Matrix) -> (Matrix, Matrix) {
        let (dtype, mut gate, mut up, d_out) = (gate.dtype(), owned(gate), owned(up), rows_of(d_out));
        with_numbers!(dtype, T => {
            kernels::gated_backward::<T>(activation, gate.storage_mut(), up.storage_mut(), d_out.storage());
        });
        (wrap(gate), wrap(up))
    }

    fn convolution(x: &Matrix, weight: &Matrix, segments: &[Segment]) -> Matrix {
        delta::convolution(x, weight, segments)
    }

    fn convolution_backward(
        x: &Matrix,
        weight: &Matrix,
        segments: &[Segment],
        d_out: &Matrix,
        d_weight: Option<&mut Gradient<Self>>,
    ) -> Matrix {
        delta::convolution_backward(x, weight, segments, d_out, d_weight)
    }

    fn delta_rule(shape: &DeltaShape, segments: &[Segment], inputs: DeltaInputs<'_, Self>) -> Matrix {
        delta::rule(shape, segments, inputs)
    }

    fn delta_rule_backward(
        shape: &DeltaShape,
        segments: &[Segment],
        inputs: DeltaInputs<'_, Self>,
        d_out: &Matrix,
    ) -> [Matrix; 3] {
        delta::rule_backward(shape, segments, inputs, d_out)
    }

    fn delta_states(shape: &DeltaShape, segments: &[Segment], inputs: DeltaInputs<'_, Self>) -> Tensor<Self, 3> {
        delta::states(shape, segments, inputs)
    }

    fn dropout(x: Matrix, rows: &[DropoutRows], probability: f64) -> Matrix {
        let (dtype, width) = (x.dtype(), x.dims()[1]);
        change(x, |x| with_numbers!(dtype, T => kernels::dropout::<T>(x.storage_mut(), width, rows, probability)))
    }

    fn target_logps(hidden: &Matrix, layer: OutputLayer<'_, Self>, targets: &[u32]) -> Vec<TargetLogp> {
        let (hidden, weight) = (rows_of(hidden), rows_of(layer.weight));
        with_numbers!(hidden.dtype(), T => {
            kernels::target_logps::<T>(hidden.storage(), output_layer(&layer, weight.storage()), targets)
        })
    }

    fn target_logps_with_gradients(
        hidden: &Matrix,
        layer: OutputLayer<'_, Self>,
        targets: &[u32],
    ) -> (Vec<TargetLogp>, Matrix) {
        let (shape, hidden, weight) = (hidden.dims(), rows_of(hidden), rows_of(layer.weight));
        with_numbers!(hidden.dtype(), T => {
            let layer = output_layer(&layer, weight.storage());
            let (logps, gradients) = kernels::target_logps_with_gradients::<T>(hidden.storage(), layer, targets);
            (logps, wrap(FlexTensor::from_data(TensorData::new(gradients, shape))))
        })
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
        let mut d_hidden = zeros(hidden.dtype(), shape);
        let mut backward = |d_weight: Option<&mut [f32]>| {
            with_numbers!(hidden.dtype(), T => {
                let (layer, hidden) = (output_layer(&layer, weight.storage()), hidden.storage::<T>());
                let d_hidden = d_hidden.storage_mut();
                kernels::target_logps_backward(hidden, layer, targets, forward, coefficients, d_hidden, d_weight);
            });
        };
        match d_weight {
            Some(gradient) => add_to(gradient, weight_shape, |d| backward(Some(d))),
            None => backward(None),
        }
        wrap(d_hidden)
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
        let of = |x: FlexTensor| with_numbers!(x.dtype(), T => kernels::sum_of_squares::<T>(x.storage()));
        tensors.iter().map(|x| of(rows_of(x))).sum()
    }
}
