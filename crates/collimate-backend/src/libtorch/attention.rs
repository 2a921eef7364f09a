//! Attention over segments by libtorch's scaled-dot-product attention: no scores are held, and what may not be attended
//! to is hardly computed.
//!
//! Segments of similar sizes are one batch, padded by a quarter at most. Prompts need no mask but the causal one, which is
//! what libtorch's fastest kernels take. Queries that share a head of keys stand below each other, so that nothing is
//! repeated for them. The way back runs the forward pass again under libtorch's own differentiation, as the plain form does.

use std::collections::BTreeMap;

use burn::tensor::{Tensor as Matrix, TensorPrimitive};
use burn_tch::{LibTorch, TchTensor};
use collimate_kernels::{AttentionShape, Segment};
use tch::{Kind, Tensor};

/// See [`FusedOps::packed_attention`](crate::FusedOps::packed_attention).
pub(super) fn attention(
    shape: &AttentionShape,
    segments: &[Segment],
    projections: [&Matrix<LibTorch, 2>; 3],
) -> Matrix<LibTorch, 2> {
    matrix(tch::no_grad(|| attend(shape, segments, &projections.map(tensor))))
}

/// See [`FusedOps::packed_attention_backward`](crate::FusedOps::packed_attention_backward).
pub(super) fn attention_backward(
    shape: &AttentionShape,
    segments: &[Segment],
    projections: [&Matrix<LibTorch, 2>; 3],
    d_out: &Matrix<LibTorch, 2>,
) -> [Matrix<LibTorch, 2>; 3] {
    let inputs = projections.map(|projection| tensor(projection).detach().set_requires_grad(true));
    let product = tch::with_grad(|| (attend(shape, segments, &inputs) * tensor(d_out)).sum(Kind::Float));
    let mut gradients = Tensor::run_backward(&[product], &inputs, false, false).into_iter();
    // As many as there are inputs, by libtorch's contract.
    inputs.each_ref().map(|input| matrix(gradients.next().unwrap_or_else(|| input.zeros_like())))
}

fn tensor(matrix: &Matrix<LibTorch, 2>) -> Tensor {
    matrix.clone().into_primitive().tensor().tensor
}

fn matrix(tensor: Tensor) -> Matrix<LibTorch, 2> {
    Matrix::from_primitive(TensorPrimitive::Float(TchTensor::new(tensor)))
}

/// Segments that are computed as one batch, S of them.
struct Batch<'a> {
    segments: Vec<&'a Segment>,
    /// Places for the rows before a segment's own, C.
    context: i64,
    /// Places for its own rows, R.
    rows: i64,
}

/// A length with room up to the next step, which is a quarter of it at most: few shapes for many lengths.
fn with_room(length: usize) -> usize {
    length.next_multiple_of((length.next_power_of_two() / 8).max(8))
}

fn batches(segments: &[Segment]) -> Vec<Batch<'_>> {
    let mut by_size: BTreeMap<(usize, usize), Vec<&Segment>> = BTreeMap::new();
    for segment in segments.iter().filter(|segment| !segment.rows.is_empty()) {
        let size = (with_room(segment.context.len()), with_room(segment.rows.len()));
        by_size.entry(size).or_default().push(segment);
    }
    let batch = |((context, rows), segments)| Batch { segments, context: context as i64, rows: rows as i64 };
    by_size.into_iter().map(batch).collect()
}

/// Attention of every segment, [N, H · head_dim].
fn attend(shape: &AttentionShape, segments: &[Segment], projections: &[Tensor; 3]) -> Tensor {
    let batches = batches(segments);
    let outputs: Vec<Tensor> = batches.iter().map(|batch| attend_batch(shape, batch, projections)).collect();
    let restoring = restoring(&batches, projections[0].size()[0]);
    Tensor::cat(&outputs, 0).index_select(0, &indices(&restoring, projections[0].device()))
}

fn attend_batch(shape: &AttentionShape, batch: &Batch<'_>, [q, k, v]: &[Tensor; 3]) -> Tensor {
    let (heads, kv_heads, dim) = (shape.heads as i64, shape.kv_heads as i64, shape.head_dim as i64);
    let (count, group) = (batch.segments.len() as i64, heads / kv_heads);
    let [own, before] = [batch.rows, batch.context];
    let rows_of_queries = places(batch, own, |segment| segment.rows.clone());
    let rows_of_keys = match before {
        0 => rows_of_queries.clone(),
        _ => joined(&places(batch, before, |segment| segment.context.clone()), &rows_of_queries, batch),
    };
    let device = q.device();
    let keys = |x: &Tensor| {
        let x = x.index_select(0, &indices(&rows_of_keys, device));
        x.view([count, before + own, kv_heads, dim]).transpose(1, 2)
    };
    let (k, v) = (keys(k), keys(v));
    let q = q.index_select(0, &indices(&rows_of_queries, device)).view([count, own, kv_heads, group, dim]);
    let reaches = shape.window.is_none_or(|window| window >= (before + own) as usize);
    let out = if before == 0 && reaches && shape.softcap.is_none() {
        // [S, H, R, head_dim]; padding stands behind what is seen.
        let q = q.view([count, own, heads, dim]).transpose(1, 2);
        let scale = f64::from(shape.scale);
        let out = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, true, scale, group > 1);
        out.transpose(1, 2)
    } else {
        // [S, H_kv, group · R, head_dim].
        let q = q.permute([0, 2, 3, 1, 4]).reshape([count, kv_heads, group * own, dim]);
        let mask = mask(batch, shape.window, device).repeat([1, 1, group, 1]);
        let out = match shape.softcap {
            None => {
                let scale = f64::from(shape.scale);
                Tensor::scaled_dot_product_attention(&q, &k, &v, Some(&mask), 0.0, false, scale, false)
            }
            Some(cap) => capped(shape, f64::from(cap), [&q, &k, &v], &mask),
        };
        out.view([count, kv_heads, group, own, dim]).permute([0, 3, 1, 2, 4])
    };
    out.reshape([count * own, heads * dim])
}

/// With scores squashed, which libtorch's kernels do not do.
fn capped(shape: &AttentionShape, cap: f64, [q, k, v]: [&Tensor; 3], mask: &Tensor) -> Tensor {
    let scores = q.matmul(&k.transpose(-2, -1)).to_kind(Kind::Float) * f64::from(shape.scale);
    let scores = ((scores / cap).tanh() * cap).masked_fill(&mask.logical_not(), f64::NEG_INFINITY);
    scores.softmax(-1, Kind::Float).to_kind(v.kind()).matmul(v)
}

/// Who sees whom, [S, 1, R, C + R]: places before a segment's own as far as it has some, itself and its own before it,
/// and of all these the last `window`. Places past a segment's end see something too, and nobody reads them.
fn mask(batch: &Batch<'_>, window: Option<usize>, device: tch::Device) -> Tensor {
    let (before, own) = (batch.context, batch.rows);
    let lengths: Vec<i64> = batch.segments.iter().map(|segment| segment.context.len() as i64).collect();
    let lengths = Tensor::from_slice(&lengths).to_device(device).view([-1, 1, 1, 1]);
    let options = (Kind::Int64, device);
    let place = Tensor::arange(before + own, options).view([1, 1, 1, -1]);
    let row = Tensor::arange(own, options).view([1, 1, -1, 1]);
    let of_context = place.less(before).logical_and(&place.less_tensor(&lengths));
    let of_own = place.greater_equal(before).logical_and(&(&place - before).less_equal_tensor(&row));
    let seen = of_context.logical_or(&of_own);
    match window {
        None => seen,
        Some(window) => {
            // Positions in the sequence, of keys and of queries.
            let of_key = place.where_self(&place.less(before), &(&place - before + &lengths));
            seen.logical_and(&(&row + &lengths - of_key).less(window as i64))
        }
    }
}

/// The pack's rows for so many places of each segment; those past its end repeat its first.
fn places(batch: &Batch<'_>, count: i64, of: impl Fn(&Segment) -> std::ops::Range<usize>) -> Vec<i64> {
    let places = batch.segments.iter().flat_map(|segment| {
        let range = of(segment);
        // A segment without rows there stands for itself, masked.
        let first = if range.is_empty() { segment.rows.start } else { range.start };
        (0..count as usize).map(move |i| if i < range.len() { range.start + i } else { first } as i64)
    });
    places.collect()
}

/// Context and own rows of each segment, one after the other.
fn joined(context: &[i64], own: &[i64], batch: &Batch<'_>) -> Vec<i64> {
    let parts = context.chunks(batch.context as usize).zip(own.chunks(batch.rows as usize));
    parts.flat_map(|(context, own)| context.iter().chain(own)).copied().collect()
}

/// Where each of the pack's rows stands in the batches' outputs, [N].
fn restoring(batches: &[Batch<'_>], num_rows: i64) -> Vec<i64> {
    let mut places = vec![0; num_rows as usize];
    let mut start = 0;
    for batch in batches {
        for segment in &batch.segments {
            segment.rows.clone().zip(start..).for_each(|(row, place)| places[row] = place);
            start += batch.rows;
        }
    }
    places
}

fn indices(rows: &[i64], device: tch::Device) -> Tensor {
    Tensor::from_slice(rows).to_device(device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, Tensor};
    use burn_tch::LibTorchDevice;
    use rstest::rstest;

    use super::*;
    use crate::{AttentionPlan, AttentionSaved, plain};

    type Matrix = Tensor<LibTorch, 2>;

    fn random(rows: usize, columns: usize) -> Matrix {
        Tensor::random([rows, columns], Distribution::Uniform(-1.0, 1.0), &LibTorchDevice::Cpu)
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
        let plan = AttentionPlan::<LibTorch>::new(segments.clone(), &[window], 4, &LibTorchDevice::Cpu);
        let (expected, lse) = plain::attention(&shape, &plan, &q, &k, &v);
        assert_same(&attention(&shape, &segments, [&q, &k, &v]), &expected);
        let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &expected, lse: &lse };
        let expected = plain::attention_backward(&shape, &plan, saved, &d);
        let found = attention_backward(&shape, &segments, [&q, &k, &v], &d);
        found.iter().zip(&expected).for_each(|(found, expected)| assert_same(found, expected));
    }

    #[test]
    fn room_is_a_quarter_at_most() {
        assert_eq!([0, 1, 8, 9, 64, 65, 500, 2000].map(with_room), [0, 8, 8, 16, 64, 80, 512, 2048]);
        assert!((8..5000).all(|length| with_room(length) <= length + (length / 4).max(8)));
    }
}
