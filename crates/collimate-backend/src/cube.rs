//! CubeCL's backends, cuda and wgpu: the decoder's operations as kernels, each written once for all devices.
//!
//! Matrix products are burn's own, autotuned per shape. Everything else computes in float32 and rounds once, to the dtype
//! of its input. A cube works on one row or tile at a time; no two cubes add to the same number, so the same input gives
//! the same bits.

mod adamw;
mod attention;
mod buffers;
mod chunk;
#[cfg(all(test, feature = "cuda"))]
mod compiles;
mod cubes;
mod elementwise;
mod math;
mod norm;
mod packed;
mod rows;
mod sums;
mod target_logps;
mod tensors;
#[cfg(test)]
mod tests;
mod units;
mod unpack;

use burn::tensor::Tensor;
use burn_cubecl::CubeRuntime;
use burn_cubecl::element::BoolElement;
use collimate_quantized::Format;

use self::attention::{Blocks, Saved};
use self::chunk::{Chunk, padded_rows};
use self::packed::CubePacked;
use self::tensors::{Cube, read, write};
use crate::attention_map::{AttentionMap, AttentionSaved, AttentionShape, Segment};
use crate::dtype::{ComputeDtype, in_dtype, in_float32};
use crate::operands::{AdamwStep, DropoutRows, GateActivation, Gradient, Moments, OutputLayer, Rotary, TargetLogp};
use crate::ops::FusedOps;
use crate::{plain, unpacking};

impl<R: CubeRuntime, BT: BoolElement> AttentionMap<Cube<R, BT>> for Blocks<R> {
    fn new(segments: &[Segment], shape: &AttentionShape, _: &[Option<usize>], device: &R::Device) -> Self {
        Self::new(segments, shape, device)
    }

    fn attend(
        &self,
        shape: &AttentionShape,
        q: &Tensor<Cube<R, BT>, 2>,
        k: &Tensor<Cube<R, BT>, 2>,
        v: &Tensor<Cube<R, BT>, 2>,
    ) -> (Tensor<Cube<R, BT>, 2>, Tensor<Cube<R, BT>, 2>) {
        let products = units::products::<R, BT>(self, shape, q.dtype(), &q.device());
        let (out, lse) = self.forward(shape, products, read(q.clone()), read(k.clone()), read(v.clone()));
        (write(out), write(lse))
    }

    fn attend_backward(
        &self,
        shape: &AttentionShape,
        saved: AttentionSaved<'_, Cube<R, BT>>,
        d_out: &Tensor<Cube<R, BT>, 2>,
    ) -> [Tensor<Cube<R, BT>, 2>; 3] {
        let read = |x: &Tensor<Cube<R, BT>, 2>| read(x.clone());
        let products = units::products::<R, BT>(self, shape, saved.q.dtype(), &saved.q.device());
        let d_out = in_dtype(d_out.clone(), saved.q.dtype());
        let saved =
            Saved { q: read(saved.q), k: read(saved.k), v: read(saved.v), out: read(saved.out), lse: read(saved.lse) };
        self.backward(shape, products, saved, read(&d_out)).map(write)
    }
}

impl<R: CubeRuntime, BT: BoolElement> FusedOps for Cube<R, BT> {
    type Attention = Blocks<R>;
    type Packed = CubePacked<R>;

    fn unpacking_bytes(format: Option<Format>, dtype: ComputeDtype) -> u64 {
        unpacking::by_kernels(format, dtype)
    }

    fn pack_rows(rows: usize) -> usize {
        padded_rows(rows)
    }

    fn add_rows(x: Tensor<Self, 2>, rows: &[u32], values: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        write(rows::add_rows(read(x), rows, read(values.clone())))
    }

    fn rms_norm(x: &Tensor<Self, 2>, weight: &Tensor<Self, 2>, eps: f64) -> Tensor<Self, 2> {
        write(norm::rms_norm(read(x.clone()), read(in_float32(weight.clone())), eps as f32))
    }

    fn rms_norm_backward(
        x: &Tensor<Self, 2>,
        weight: &Tensor<Self, 2>,
        eps: f64,
        d_out: Tensor<Self, 2>,
        d_weight: Option<&mut Gradient<Self>>,
    ) -> Tensor<Self, 2> {
        let d_out = in_dtype(d_out, x.dtype());
        let (x, weight) = (read(x.clone()), read(in_float32(weight.clone())));
        let (d_x, parts) = norm::rms_norm_backward(x, weight, eps as f32, read(d_out), d_weight.is_some());
        if let (Some(gradient), Some(parts)) = (d_weight, parts) {
            plain::accumulate(gradient, write::<R, BT, 2>(parts).sum_dim(0));
        }
        write(d_x)
    }

    fn rotate(x: Tensor<Self, 2>, rotary: &Rotary<Self>, inverse: bool) -> Tensor<Self, 2> {
        let (cos, sin) = (read(rotary.cos.clone()), read(rotary.sin.clone()));
        write(elementwise::rotate(read(x), cos, sin, rotary.head_dim, inverse))
    }

    fn gated(activation: GateActivation, gate: &Tensor<Self, 2>, up: &Tensor<Self, 2>) -> Tensor<Self, 2> {
        write(elementwise::gated(activation, read(gate.clone()), read(up.clone())))
    }

    fn gated_backward(
        activation: GateActivation,
        gate: Tensor<Self, 2>,
        up: Tensor<Self, 2>,
        d_out: &Tensor<Self, 2>,
    ) -> (Tensor<Self, 2>, Tensor<Self, 2>) {
        let d_out = in_dtype(d_out.clone(), gate.dtype());
        let (d_gate, d_up) = elementwise::gated_backward(activation, read(gate), read(up), read(d_out));
        (write(d_gate), write(d_up))
    }

    fn dropout(x: Tensor<Self, 2>, rows: &[DropoutRows], probability: f64) -> Tensor<Self, 2> {
        write(elementwise::dropout(read(x), rows, probability))
    }

    fn target_logps(hidden: &Tensor<Self, 2>, layer: OutputLayer<'_, Self>, targets: &[u32]) -> Vec<TargetLogp> {
        let reduced = Chunk::all(hidden, layer, targets).map(|chunk| chunk.reduce(chunk.logits()).0);
        chunk::logps(reduced.collect())
    }

    fn target_logps_with_gradients(
        hidden: &Tensor<Self, 2>,
        layer: OutputLayer<'_, Self>,
        targets: &[u32],
    ) -> (Vec<TargetLogp>, Tensor<Self, 2>) {
        let (mut sums, mut gradients) = (Vec::new(), Vec::new());
        for chunk in Chunk::all(hidden, layer, targets) {
            let logits = chunk.logits();
            let (row_sums, reduced) = chunk.reduce(logits.clone());
            sums.push(row_sums);
            gradients.push(chunk.d_hidden(chunk.logits_backward(logits, reduced, &vec![1.0; chunk.rows])));
        }
        (chunk::logps(sums), plain::target_logps::concatenated(gradients, hidden))
    }

    fn target_logps_backward(
        hidden: &Tensor<Self, 2>,
        layer: OutputLayer<'_, Self>,
        targets: &[u32],
        forward: &[TargetLogp],
        coefficients: &[f32],
        mut d_weight: Option<&mut Gradient<Self>>,
    ) -> Tensor<Self, 2> {
        let mut d_hidden = Vec::new();
        for chunk in Chunk::all(hidden, layer, targets) {
            let range = chunk.start..chunk.start + chunk.rows;
            let logits = chunk.logits();
            let reduced = chunk.reduced_again(&logits, &forward[range.clone()]);
            let d_logits = chunk.logits_backward(logits, reduced, &coefficients[range]);
            if let Some(gradient) = d_weight.as_deref_mut() {
                plain::accumulate(gradient, d_logits.clone().transpose().matmul(chunk.hidden.clone()));
            }
            d_hidden.push(chunk.d_hidden(d_logits));
        }
        plain::target_logps::concatenated(d_hidden, hidden)
    }

    fn adamw(
        parameter: Tensor<Self, 2>,
        gradient: &Tensor<Self, 2>,
        moments: Moments<Self>,
        step: &AdamwStep,
    ) -> (Tensor<Self, 2>, Moments<Self>) {
        let gradient = read(in_float32(gradient.clone()));
        let state = [parameter, moments.m, moments.v].map(read);
        let [parameter, m, v] = adamw::adamw(state, gradient, step).map(write);
        (parameter, Moments { m, v })
    }

    fn sum_of_squares(tensors: &[&Tensor<Self, 2>]) -> f64 {
        let sums = tensors.iter().map(|&x| write::<R, BT, 2>(sums::squares(read(x.clone()))));
        let sums: Vec<_> = sums.collect();
        if sums.is_empty() { 0.0 } else { Tensor::cat(sums, 1).into_data().iter::<f64>().sum() }
    }
}
