//! CubeCL's backends, cuda and wgpu: the decoder's operations as kernels, each written once for all devices.
//!
//! Products of matrices are burn's own, which tries kernels for a shape and remembers the fastest. All else computes in
//! float32 and rounds once, to the type of its input. Kernels take a row or a tile per cube and go on to the next one; no
//! two cubes add to the same number, so the same input gives the same bits.

mod attention;
mod buffers;
#[cfg(all(test, feature = "cuda"))]
mod compiles;
mod cubes;
mod elementwise;
mod math;
mod norm;
mod rows;
mod sums;
mod target_logps;
mod tensors;
#[cfg(test)]
mod tests;
mod units;

use burn::tensor::Tensor;
use burn_cubecl::CubeRuntime;
use burn_cubecl::element::BoolElement;
use burn_cubecl::tensor::CubeTensor;
use collimate_kernels::{AdamwStep, AttentionShape, DropoutRows, GateActivation, Segment, TargetLogp};

use self::attention::{Blocks, Saved};
use self::tensors::{Cube, read, write};
use crate::dtype::{in_dtype, in_float32};
use crate::ops::{AttentionPlan, AttentionSaved, FusedOps, Gradient, OutputLayer, Rotary};
use crate::plain;

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

    fn pack_rows(rows: usize) -> usize {
        with_room(rows)
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
        let reduced = Chunk::all(hidden, layer, targets).map(|chunk| chunk.reduce(chunk.logits()).0);
        finished(reduced.collect())
    }

    fn target_logps_with_gradients(
        hidden: &Tensor<Self, 2>,
        layer: OutputLayer<'_, Self>,
        targets: &[u32],
    ) -> (Vec<TargetLogp>, Tensor<Self, 2>) {
        let (mut columns, mut gradients) = (Vec::new(), Vec::new());
        for chunk in Chunk::all(hidden, layer, targets) {
            let logits = chunk.logits();
            let (of_rows, reduced) = chunk.reduce(logits.clone());
            columns.push(of_rows);
            gradients.push(chunk.d_hidden(chunk.push(logits, reduced, &vec![1.0; chunk.rows])));
        }
        (finished(columns), plain::target_logps::joined(gradients, hidden))
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
            let (start, end) = (chunk.start, chunk.start + chunk.rows);
            let log_sum_exps = forward[start..end].iter().map(|row| row.log_sum_exp as f32);
            let padded = log_sum_exps.chain(std::iter::repeat(0.0)).take(chunk.targets.len());
            let reduced: Vec<f32> = padded.flat_map(|log_sum_exp| [0.0, log_sum_exp, 1.0]).collect();
            let logits = chunk.logits();
            let reduced = buffers::upload(&logits.client, &logits.device, &reduced);
            let pushed = chunk.push(logits, reduced, &coefficients[start..end]);
            if let Some(gradient) = d_weight.as_deref_mut() {
                plain::accumulate(gradient, pushed.clone().transpose().matmul(chunk.hidden.clone()));
            }
            d_hidden.push(chunk.d_hidden(pushed));
        }
        plain::target_logps::joined(d_hidden, hidden)
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

/// A number of rows with room up to the next step, a sixteenth of it at most: few shapes for many sizes, so that kernels
/// are chosen once and memory that was freed fits what comes next.
fn with_room(rows: usize) -> usize {
    rows.next_multiple_of((rows.next_power_of_two() / 32).max(16))
}

/// Rows of hidden states whose logits are made at once, with room.
struct Chunk<'a, R: CubeRuntime, BT: BoolElement> {
    layer: OutputLayer<'a, Cube<R, BT>>,
    /// Which of the targets is the chunk's first, and how many there are.
    start: usize,
    rows: usize,
    /// [room, D], zero behind the rows.
    hidden: Tensor<Cube<R, BT>, 2>,
    /// \[room\].
    targets: Vec<u32>,
}

impl<'a, R: CubeRuntime, BT: BoolElement> Chunk<'a, R, BT> {
    /// In chunks of as many rows as [`CHUNK_ELEMENTS`] allows.
    fn all(
        hidden: &Tensor<Cube<R, BT>, 2>,
        layer: OutputLayer<'a, Cube<R, BT>>,
        targets: &[u32],
    ) -> impl Iterator<Item = Self> {
        let step = (CHUNK_ELEMENTS / layer.weight.dims()[0].max(1)).max(1);
        targets.chunks(step).zip((0..).step_by(step)).map(move |(targets, start)| {
            let (rows, room) = (targets.len(), with_room(targets.len()).min(step.max(targets.len())));
            let mut targets = targets.to_vec();
            targets.resize(room, 0);
            let own = hidden.clone().narrow(0, start, rows);
            // Not by burn's `pad`, which fills a tensor of float32 whatever the type.
            let rest = || Tensor::zeros([room - rows, hidden.dims()[1]], (&hidden.device(), hidden.dtype()));
            let hidden = if room == rows { own } else { Tensor::cat(vec![own, rest()], 0) };
            Self { layer, start, rows, hidden, targets }
        })
    }

    /// [room, V], in the type of the hidden states, not squashed.
    fn logits(&self) -> CubeTensor<R> {
        read(self.hidden.clone().matmul(self.layer.weight.clone().transpose()))
    }

    /// What [`target_logps::reduce`] gives: of the rows, and with the room.
    fn reduce(&self, logits: CubeTensor<R>) -> (Tensor<Cube<R, BT>, 2>, CubeTensor<R>) {
        let reduced = target_logps::reduce(logits, &self.targets, self.layer.softcap);
        (write::<R, BT, 2>(reduced.clone()).narrow(0, 0, self.rows), reduced)
    }

    /// Gradients of the logits; what stands in the room gets none.
    fn push(&self, logits: CubeTensor<R>, reduced: CubeTensor<R>, coefficients: &[f32]) -> Tensor<Cube<R, BT>, 2> {
        let mut coefficients = coefficients.to_vec();
        coefficients.resize(self.targets.len(), 0.0);
        write(target_logps::push(logits, &self.targets, reduced, &coefficients, self.layer.softcap))
    }

    /// Of the rows.
    fn d_hidden(&self, pushed: Tensor<Cube<R, BT>, 2>) -> Tensor<Cube<R, BT>, 2> {
        pushed.matmul(self.layer.weight.clone()).narrow(0, 0, self.rows)
    }
}

/// From what [`target_logps::reduce`] gave of each chunk, which are read at once.
fn finished<R: CubeRuntime, BT: BoolElement>(columns: Vec<Tensor<Cube<R, BT>, 2>>) -> Vec<TargetLogp> {
    if columns.is_empty() { Vec::new() } else { plain::target_logps::finished(Tensor::cat(columns, 0)) }
}
