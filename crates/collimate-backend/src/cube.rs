//! CubeCL's backends, cuda and wgpu: the decoder's operations as kernels, each written once for all devices.
//!
//! Products of matrices are burn's own, which tries kernels for a shape and remembers the fastest. All else computes in
//! float32 and rounds once, to the type of its input. Kernels take a row or a tile per cube and go on to the next one; no
//! two cubes add to the same number, so the same input gives the same bits.

mod attention;
mod buffers;
mod cubes;
mod elementwise;
mod math;
mod norm;
mod sums;
mod target_logps;
mod tensors;
#[cfg(test)]
mod tests;

use burn::tensor::Tensor;
use burn_cubecl::CubeRuntime;
use burn_cubecl::element::BoolElement;
use collimate_kernels::{AdamwStep, AttentionShape, DropoutRows, GateActivation, Segment, TargetLogp};

use self::attention::{Blocks, Saved};
use self::tensors::{Cube, read, write};
use crate::dtype::{in_dtype, in_float32};
use crate::ops::{AttentionPlan, AttentionSaved, FusedOps, Gradient, OutputLayer, Rotary};

/// Logits of a chunk: at most this many numbers, so that their memory is bounded whatever the vocabulary.
const CHUNK_ELEMENTS: usize = 32 << 20;

impl<R: CubeRuntime, BT: BoolElement> AttentionPlan<Cube<R, BT>> for Blocks<R> {
    fn new(segments: &[Segment], shape: &AttentionShape, _: &[Option<usize>], device: &R::Device) -> Self {
        Self::of(segments, shape, device)
    }

    fn attend(
        &self,
        shape: &AttentionShape,
        q: &Tensor<Cube<R, BT>, 2>,
        k: &Tensor<Cube<R, BT>, 2>,
        v: &Tensor<Cube<R, BT>, 2>,
    ) -> (Tensor<Cube<R, BT>, 2>, Tensor<Cube<R, BT>, 2>) {
        let (out, lse) = self.forward(shape, read(q.clone()), read(k.clone()), read(v.clone()));
        (write(out), write(lse))
    }

    fn attend_backward(
        &self,
        shape: &AttentionShape,
        saved: AttentionSaved<'_, Cube<R, BT>>,
        d_out: &Tensor<Cube<R, BT>, 2>,
    ) -> [Tensor<Cube<R, BT>, 2>; 3] {
        let read = |x: &Tensor<Cube<R, BT>, 2>| read(x.clone());
        let d_out = in_dtype(d_out.clone(), saved.q.dtype());
        let saved =
            Saved { q: read(saved.q), k: read(saved.k), v: read(saved.v), out: read(saved.out), lse: read(saved.lse) };
        self.backward(shape, saved, read(&d_out)).map(write)
    }
}

impl<R: CubeRuntime, BT: BoolElement> FusedOps for Cube<R, BT> {
    type Attention = Blocks<R>;

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
            let more = write::<R, BT, 2>(parts).sum_dim(0);
            *gradient = Some(match gradient.take() {
                Some(held) => held + more,
                None => more,
            });
        }
        write(d_x)
    }

    fn rotate(x: Tensor<Self, 2>, rotary: &Rotary<Self>, inverse: bool) -> Tensor<Self, 2> {
        let angles = (read(rotary.cos.clone()), read(rotary.sin.clone()));
        write(elementwise::rotate(read(x), angles, rotary.head_dim, inverse))
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
        let reduced = chunks(targets.len(), layer).map(|(start, end)| {
            let logits = logits(hidden, layer, start, end);
            write::<R, BT, 2>(target_logps::reduce(logits, &targets[start..end], layer.softcap))
        });
        finished(reduced.collect())
    }

    fn target_logps_with_gradients(
        hidden: &Tensor<Self, 2>,
        layer: OutputLayer<'_, Self>,
        targets: &[u32],
    ) -> (Vec<TargetLogp>, Tensor<Self, 2>) {
        let (mut columns, mut gradients) = (Vec::new(), Vec::new());
        for (start, end) in chunks(targets.len(), layer) {
            let (targets, ones) = (&targets[start..end], vec![1.0; end - start]);
            let logits = logits(hidden, layer, start, end);
            let reduced = target_logps::reduce(logits.clone(), targets, layer.softcap);
            let pushed = target_logps::push(logits, targets, reduced.clone(), &ones, layer.softcap);
            gradients.push(write::<R, BT, 2>(pushed).matmul(layer.weight.clone()));
            columns.push(write::<R, BT, 2>(reduced));
        }
        let gradients = if gradients.is_empty() { hidden.zeros_like() } else { Tensor::cat(gradients, 0) };
        (finished(columns), gradients)
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
        for (start, end) in chunks(targets.len(), layer) {
            let logits = logits(hidden, layer, start, end);
            let log_sum_exps = forward[start..end].iter().flat_map(|row| [0.0, row.log_sum_exp as f32, 1.0]);
            let reduced = buffers::upload(&logits.client, &logits.device, &log_sum_exps.collect::<Vec<_>>());
            let (targets, coefficients) = (&targets[start..end], &coefficients[start..end]);
            let pushed = target_logps::push(logits, targets, reduced, coefficients, layer.softcap);
            let pushed = write::<R, BT, 2>(pushed);
            if let Some(gradient) = d_weight.as_deref_mut() {
                let more = in_float32(pushed.clone().transpose().matmul(hidden.clone().narrow(0, start, end - start)));
                *gradient = Some(match gradient.take() {
                    Some(held) => held + more,
                    None => more,
                });
            }
            d_hidden.push(pushed.matmul(layer.weight.clone()));
        }
        if d_hidden.is_empty() { hidden.zeros_like() } else { Tensor::cat(d_hidden, 0) }
    }

    fn adamw(
        parameter: Tensor<Self, 2>,
        gradient: &Tensor<Self, 2>,
        (m, v): (Tensor<Self, 2>, Tensor<Self, 2>),
        step: &AdamwStep,
    ) -> (Tensor<Self, 2>, (Tensor<Self, 2>, Tensor<Self, 2>)) {
        let gradient = read(in_float32(gradient.clone()));
        let [parameter, m, v] = elementwise::adamw(read(parameter), gradient, (read(m), read(v)), step).map(write);
        (parameter, (m, v))
    }

    fn sum_of_squares(tensors: &[&Tensor<Self, 2>]) -> f64 {
        let sums = tensors.iter().map(|&x| write::<R, BT, 2>(sums::squares(read(x.clone()))));
        let sums: Vec<_> = sums.collect();
        if sums.is_empty() { 0.0 } else { Tensor::cat(sums, 1).into_data().iter::<f64>().sum() }
    }
}

fn chunks<R: CubeRuntime, BT: BoolElement>(
    total: usize,
    layer: OutputLayer<'_, Cube<R, BT>>,
) -> impl Iterator<Item = (usize, usize)> {
    let step = (CHUNK_ELEMENTS / layer.weight.dims()[0].max(1)).max(1);
    (0..total).step_by(step).map(move |start| (start, (start + step).min(total)))
}

/// Logits of some rows of hidden states, in their type, not squashed.
fn logits<R: CubeRuntime, BT: BoolElement>(
    hidden: &Tensor<Cube<R, BT>, 2>,
    layer: OutputLayer<'_, Cube<R, BT>>,
    start: usize,
    end: usize,
) -> burn_cubecl::tensor::CubeTensor<R> {
    read(hidden.clone().narrow(0, start, end - start).matmul(layer.weight.clone().transpose()))
}

/// From what [`target_logps::reduce`] gave of each chunk, which are read at once.
fn finished<R: CubeRuntime, BT: BoolElement>(columns: Vec<Tensor<Cube<R, BT>, 2>>) -> Vec<TargetLogp> {
    if columns.is_empty() {
        return Vec::new();
    }
    let columns: Vec<f64> = Tensor::cat(columns, 0).into_data().iter::<f64>().collect();
    // Finished in float64: rounding each token's log-prob to float32 costs 1e-5 nats over a response.
    let finish = |c: &[f64]| TargetLogp { logp: c[0] - c[1] - c[2].ln(), log_sum_exp: c[1] + c[2].ln() };
    columns.chunks_exact(3).map(finish).collect()
}
