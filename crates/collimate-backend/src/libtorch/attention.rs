//! Attention over segments by libtorch's scaled-dot-product attention: no scores are held, and what may not be attended
//! to is hardly computed.
//!
//! Segments of similar sizes are one batch, padded by a quarter at most. Prompts need no mask but the causal one, which is
//! what libtorch's fastest kernels take. Queries that share a head of keys stand below each other, so that nothing is
//! repeated for them. The way back runs the forward pass again under libtorch's own differentiation, as the plain form does.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Tensor as BurnTensor, TensorPrimitive};
use burn_tch::{LibTorch, LibTorchDevice, TchTensor};
use collimate_kernels::{AttentionShape, Segment};
use tch::{Device, Kind, Tensor};

use crate::ops::{AttentionPlan, AttentionSaved};

type Matrix = BurnTensor<LibTorch, 2>;

/// A pack's segments by their sizes, with what libtorch reads of them.
#[derive(Debug)]
pub struct Batches {
    batches: Vec<Batch>,
    /// Where each of the pack's rows stands in the batches' outputs, [N].
    restore: Tensor,
}

/// Segments that are computed as one batch, S of them.
#[derive(Debug)]
struct Batch {
    count: i64,
    /// Places for the rows before a segment's own, C.
    context: i64,
    /// Places for its own rows, R.
    rows: i64,
    /// The pack's rows of the places of queries, [S · R].
    queries: Tensor,
    /// The same of keys, [S · (C + R)].
    keys: Tensor,
    /// Who sees whom, [S, 1, R, C + R], by the layers' window.
    masks: BTreeMap<Option<usize>, Tensor>,
}

impl AttentionPlan<LibTorch> for Batches {
    fn new(segments: &[Segment], _: &AttentionShape, windows: &[Option<usize>], device: &LibTorchDevice) -> Self {
        let device = Device::from(*device);
        let mut by_size: BTreeMap<(usize, usize), Vec<&Segment>> = BTreeMap::new();
        for segment in segments.iter().filter(|segment| !segment.rows.is_empty()) {
            let size = (with_room(segment.context.len()), with_room(segment.rows.len()));
            by_size.entry(size).or_default().push(segment);
        }
        let num_rows = segments.iter().map(|segment| segment.rows.end).max().unwrap_or(0);
        let restore = indices(&restoring(&by_size, num_rows), device);
        let batches = by_size.iter().map(|(&size, segments)| Batch::new(size, segments, windows, device));
        Self { batches: batches.collect(), restore }
    }

    fn attend(&self, shape: &AttentionShape, q: &Matrix, k: &Matrix, v: &Matrix) -> (Matrix, Matrix) {
        let out = matrix(tch::no_grad(|| self.attention(shape, &[q, k, v].map(tensor))));
        (out, BurnTensor::empty([0, 0], &q.device()))
    }

    fn attend_backward(
        &self,
        shape: &AttentionShape,
        saved: AttentionSaved<'_, LibTorch>,
        d_out: &Matrix,
    ) -> [Matrix; 3] {
        let inputs = [saved.q, saved.k, saved.v].map(|projection| tensor(projection).detach().set_requires_grad(true));
        let product = tch::with_grad(|| (self.attention(shape, &inputs) * tensor(d_out)).sum(Kind::Float));
        let mut gradients = Tensor::run_backward(&[product], &inputs, false, false).into_iter();
        // As many as there are inputs, by libtorch's contract.
        inputs.each_ref().map(|input| matrix(gradients.next().unwrap_or_else(|| input.zeros_like())))
    }
}

impl Batches {
    /// Attention of every segment, [N, H · head_dim].
    fn attention(&self, shape: &AttentionShape, projections: &[Tensor; 3]) -> Tensor {
        let outputs: Vec<Tensor> = self.batches.iter().map(|batch| batch.attention(shape, projections)).collect();
        Tensor::cat(&outputs, 0).index_select(0, &self.restore)
    }
}

impl Batch {
    fn new((context, rows): (usize, usize), segments: &[&Segment], windows: &[Option<usize>], device: Device) -> Self {
        let queries = places(segments, rows, |segment| segment.rows.clone());
        let keys = match context {
            0 => queries.clone(),
            _ => {
                let before = places(segments, context, |segment| segment.context.clone());
                let parts = before.chunks(context).zip(queries.chunks(rows));
                parts.flat_map(|(before, own)| before.iter().chain(own)).copied().collect()
            }
        };
        let mut batch = Self {
            count: segments.len() as i64,
            context: context as i64,
            rows: rows as i64,
            queries: indices(&queries, device),
            keys: indices(&keys, device),
            masks: BTreeMap::new(),
        };
        let lengths: Vec<i64> = segments.iter().map(|segment| segment.context.len() as i64).collect();
        let lengths = indices(&lengths, device).view([-1, 1, 1, 1]);
        for &window in windows {
            batch.masks.entry(window).or_insert_with(|| mask((context as i64, rows as i64), &lengths, window));
        }
        batch
    }

    fn attention(&self, shape: &AttentionShape, [q, k, v]: &[Tensor; 3]) -> Tensor {
        let (heads, kv_heads, dim) = (shape.heads as i64, shape.kv_heads as i64, shape.head_dim as i64);
        let (count, group) = (self.count, heads / kv_heads);
        let [own, before] = [self.rows, self.context];
        let keys =
            |x: &Tensor| x.index_select(0, &self.keys).view([count, before + own, kv_heads, dim]).transpose(1, 2);
        let (k, v) = (keys(k), keys(v));
        let q = q.index_select(0, &self.queries).view([count, own, kv_heads, group, dim]);
        let reaches = shape.window.is_none_or(|window| window >= (before + own) as usize);
        let scale = f64::from(shape.scale);
        let out = if before == 0 && reaches && shape.softcap.is_none() {
            // [S, H, R, head_dim]; padding stands behind what is seen.
            let q = q.view([count, own, heads, dim]).transpose(1, 2);
            let out = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, true, scale, group > 1);
            out.transpose(1, 2)
        } else {
            // [S, H_kv, group · R, head_dim].
            let q = q.permute([0, 2, 3, 1, 4]).reshape([count, kv_heads, group * own, dim]);
            let mask = self.masks[&shape.window].repeat([1, 1, group, 1]);
            let out = match shape.softcap {
                None => Tensor::scaled_dot_product_attention(&q, &k, &v, Some(&mask), 0.0, false, scale, false),
                Some(cap) => capped(scale, f64::from(cap), [&q, &k, &v], &mask),
            };
            out.view([count, kv_heads, group, own, dim]).permute([0, 3, 1, 2, 4])
        };
        out.reshape([count * own, heads * dim])
    }
}

fn tensor(matrix: &Matrix) -> Tensor {
    matrix.clone().into_primitive().tensor().tensor
}

fn matrix(tensor: Tensor) -> Matrix {
    Matrix::from_primitive(TensorPrimitive::Float(TchTensor::new(tensor)))
}

/// A length with room up to the next step, which is a quarter of it at most: few shapes for many lengths.
fn with_room(length: usize) -> usize {
    length.next_multiple_of((length.next_power_of_two() / 8).max(8))
}

/// With scores squashed, which libtorch's kernels do not do.
fn capped(scale: f64, cap: f64, [q, k, v]: [&Tensor; 3], mask: &Tensor) -> Tensor {
    let scores = q.matmul(&k.transpose(-2, -1)).to_kind(Kind::Float) * scale;
    let scores = ((scores / cap).tanh() * cap).masked_fill(&mask.logical_not(), f64::NEG_INFINITY);
    scores.softmax(-1, Kind::Float).to_kind(v.kind()).matmul(v)
}

/// Who sees whom, [S, 1, R, C + R]: places before a segment's own as far as it has some (`lengths`, [S, 1, 1, 1]), itself
/// and its own before it, and of all these the last `window`. Places past a segment's end see something too, and nobody
/// reads them.
fn mask((before, own): (i64, i64), lengths: &Tensor, window: Option<usize>) -> Tensor {
    let options = (Kind::Int64, lengths.device());
    let place = Tensor::arange(before + own, options).view([1, 1, 1, -1]);
    let row = Tensor::arange(own, options).view([1, 1, -1, 1]);
    let of_context = place.less(before).logical_and(&place.less_tensor(lengths));
    let of_own = place.greater_equal(before).logical_and(&(&place - before).less_equal_tensor(&row));
    let seen = of_context.logical_or(&of_own);
    match window {
        None => seen,
        Some(window) => {
            // Positions in the sequence, of keys and of queries.
            let of_key = place.where_self(&place.less(before), &(&place - before + lengths));
            seen.logical_and(&(&row + lengths - of_key).less(window as i64))
        }
    }
}

/// The pack's rows for so many places of each segment; those past its end repeat its first.
fn places(segments: &[&Segment], count: usize, of: impl Fn(&Segment) -> Range<usize>) -> Vec<i64> {
    let places = segments.iter().flat_map(|segment| {
        let range = of(segment);
        // A segment without rows there stands for itself, masked.
        let first = if range.is_empty() { segment.rows.start } else { range.start };
        (0..count).map(move |i| if i < range.len() { range.start + i } else { first } as i64)
    });
    places.collect()
}

/// Where each of the pack's rows stands in the batches' outputs, [N].
fn restoring(batches: &BTreeMap<(usize, usize), Vec<&Segment>>, num_rows: usize) -> Vec<i64> {
    let mut places = vec![0; num_rows];
    let mut start = 0;
    for ((_, rows), segments) in batches {
        for segment in segments {
            segment.rows.clone().zip(start..).for_each(|(row, place)| places[row] = place);
            start += *rows as i64;
        }
    }
    places
}

fn indices(rows: &[i64], device: Device) -> Tensor {
    Tensor::from_slice(rows).to_device(device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;
    use rstest::rstest;

    use super::*;
    use crate::plain;

    fn random(rows: usize, columns: usize) -> Matrix {
        Matrix::random([rows, columns], Distribution::Uniform(-1.0, 1.0), &LibTorchDevice::Cpu)
    }

    fn assert_same(found: &Matrix, expected: &Matrix) {
        let size: f32 = expected.clone().abs().max().into_scalar();
        let difference: f32 = (found.clone() - expected.clone()).abs().max().into_scalar();
        assert!(size > 1e-3 && difference <= 1e-5 * size, "{difference} of {size}");
    }

    #[rstest]
    fn segments_attend_as_in_the_plain_form(
        #[values(None, Some(4))] window: Option<usize>,
        #[values(None, Some(0.7))] softcap: Option<f32>,
        #[values(1, 2, 4)] kv_heads: usize,
    ) {
        let shape = AttentionShape { heads: 4, kv_heads, head_dim: 6, scale: 0.4, window, softcap };
        let segment = |context, rows| Segment { context, rows };
        // A prompt with three responses, one of another prompt, and sequences of their own, some of a size.
        let segments = vec![
            segment(0..0, 0..7),
            segment(0..7, 7..9),
            segment(0..7, 9..15),
            segment(0..7, 15..26),
            segment(0..0, 26..29),
            segment(26..29, 29..30),
            segment(0..0, 30..41),
            segment(0..0, 41..60),
        ];
        let num_rows = 60;
        let [q, d] = [0; 2].map(|_| random(num_rows, 24));
        let [k, v] = [0; 2].map(|_| random(num_rows, 6 * kv_heads));
        let plan = Batches::new(&segments, &shape, &[window], &LibTorchDevice::Cpu);
        let plain = plain::Tiles::new(&segments, &shape, &[window], &LibTorchDevice::Cpu);
        let (out, lse) = plain.attend(&shape, &q, &k, &v);
        assert_same(&plan.attend(&shape, &q, &k, &v).0, &out);
        let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
        let expected = plain.attend_backward(&shape, saved, &d);
        let found = plan.attend_backward(&shape, saved, &d);
        found.iter().zip(&expected).for_each(|(found, expected)| assert_same(found, expected));
    }

    #[test]
    fn room_is_a_quarter_at_most() {
        assert_eq!([0, 1, 8, 9, 64, 65, 500, 2000].map(with_room), [0, 8, 8, 16, 64, 80, 512, 2048]);
        assert!((8..5000).all(|length| with_room(length) <= length + (length / 4).max(8)));
    }
}
