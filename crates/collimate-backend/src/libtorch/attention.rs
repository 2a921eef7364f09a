//! Attention over segments by libtorch's `scaled_dot_product_attention`, which never materializes scores.
//!
//! Segments of similar size form one batch, padded by at most a quarter. Prompts need only the causal mask, the case
//! that libtorch's fastest kernels support. Query heads that share a key head are stacked as rows, so that keys are not
//! repeated. The backward pass repeats the forward pass under libtorch's own differentiation, as the plain form does.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Tensor as BurnTensor, TensorPrimitive};
use burn_tch::{LibTorch, LibTorchDevice, TchTensor};
use collimate_kernels::{AttentionShape, Segment};
use tch::{Device, Kind, Tensor};

use crate::attention_map::{AttentionMap, AttentionSaved};
use crate::plain;

type Matrix = BurnTensor<LibTorch, 2>;

/// A pack's segments in batches of similar size.
#[derive(Debug)]
pub struct Batches {
    /// For attention with sinks, which libtorch's kernels lack.
    segments: Vec<Segment>,
    device: LibTorchDevice,
    batches: Vec<Batch>,
    /// Index of each of the pack's rows in the concatenated outputs of the batches, [N].
    restore: Tensor,
}

/// S segments padded to one size.
#[derive(Debug)]
struct Batch {
    count: i64,
    size: PaddedSize,
    /// The pack's row of each query, [S · R].
    queries: Tensor,
    /// The pack's row of each key, [S · (C + R)].
    keys: Tensor,
    /// What each query attends to, [S, 1, R, C + R], by the layers' window.
    masks: BTreeMap<Option<usize>, Tensor>,
}

/// The sizes that a batch's segments are padded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PaddedSize {
    /// Context rows, C.
    context: usize,
    /// A segment's own rows, R.
    own: usize,
}

impl PaddedSize {
    fn of_segment(segment: &Segment) -> Self {
        Self { context: padded(segment.context.len()), own: padded(segment.rows.len()) }
    }
}

impl AttentionMap<LibTorch> for Batches {
    fn new(segments: &[Segment], _: &AttentionShape, windows: &[Option<usize>], on: &LibTorchDevice) -> Self {
        let device = Device::from(*on);
        let mut by_size: BTreeMap<PaddedSize, Vec<&Segment>> = BTreeMap::new();
        for segment in segments.iter().filter(|segment| !segment.rows.is_empty()) {
            by_size.entry(PaddedSize::of_segment(segment)).or_default().push(segment);
        }
        let num_rows = segments.iter().map(|segment| segment.rows.end).max().unwrap_or(0);
        let restore = indices(&output_indices(&by_size, num_rows), device);
        let batches = by_size.iter().map(|(&size, segments)| Batch::new(size, segments, windows, device));
        Self { segments: segments.to_vec(), device: *on, batches: batches.collect(), restore }
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
        // libtorch returns one gradient per input.
        inputs.each_ref().map(|input| matrix(gradients.next().unwrap_or_else(|| input.zeros_like())))
    }

    fn attend_with_sinks(&self, shape: &AttentionShape, projections: [&Matrix; 3], sinks: &Matrix) -> (Matrix, Matrix) {
        self.tiles(shape).attend_with_sinks(shape, projections, sinks)
    }

    fn attend_backward_with_sinks(
        &self,
        shape: &AttentionShape,
        saved: AttentionSaved<'_, LibTorch>,
        sinks: &Matrix,
        d_out: &Matrix,
    ) -> [Matrix; 3] {
        self.tiles(shape).attend_backward_with_sinks(shape, saved, sinks, d_out)
    }
}

impl Batches {
    fn tiles(&self, shape: &AttentionShape) -> plain::Tiles<LibTorch> {
        plain::Tiles::new(&self.segments, shape, &[shape.window], &self.device)
    }

    /// Attention of every segment, [N, H · head_dim].
    fn attention(&self, shape: &AttentionShape, projections: &[Tensor; 3]) -> Tensor {
        let outputs: Vec<Tensor> = self.batches.iter().map(|batch| batch.attention(shape, projections)).collect();
        Tensor::cat(&outputs, 0).index_select(0, &self.restore)
    }
}

impl Batch {
    fn new(size: PaddedSize, segments: &[&Segment], windows: &[Option<usize>], device: Device) -> Self {
        let queries = padded_rows(segments, size.own, |segment| segment.rows.clone());
        let keys = match size.context {
            0 => queries.clone(),
            _ => {
                let context = padded_rows(segments, size.context, |segment| segment.context.clone());
                let parts = context.chunks(size.context).zip(queries.chunks(size.own));
                parts.flat_map(|(context, own)| context.iter().chain(own)).copied().collect()
            }
        };
        let mut batch = Self {
            count: segments.len() as i64,
            size,
            queries: indices(&queries, device),
            keys: indices(&keys, device),
            masks: BTreeMap::new(),
        };
        let lengths: Vec<i64> = segments.iter().map(|segment| segment.context.len() as i64).collect();
        let lengths = indices(&lengths, device).view([-1, 1, 1, 1]);
        for &window in windows {
            batch.masks.entry(window).or_insert_with(|| mask(size, &lengths, window));
        }
        batch
    }

    fn attention(&self, shape: &AttentionShape, [q, k, v]: &[Tensor; 3]) -> Tensor {
        let (heads, kv_heads, dim) = (shape.heads as i64, shape.kv_heads as i64, shape.head_dim as i64);
        let (count, group) = (self.count, heads / kv_heads);
        let [context, own] = [self.size.context as i64, self.size.own as i64];
        let keys =
            |x: &Tensor| x.index_select(0, &self.keys).view([count, context + own, kv_heads, dim]).transpose(1, 2);
        let (k, v) = (keys(k), keys(v));
        let q = q.index_select(0, &self.queries).view([count, own, kv_heads, group, dim]);
        let sees_all = shape.window.is_none_or(|window| window >= (context + own) as usize);
        let scale = f64::from(shape.scale);
        let out = if context == 0 && sees_all && shape.softcap.is_none() {
            // [S, H, R, head_dim]; padding comes last, where the causal mask hides it.
            let q = q.view([count, own, heads, dim]).transpose(1, 2);
            let out = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, true, scale, group > 1);
            out.transpose(1, 2)
        } else {
            // [S, H_kv, group · R, head_dim].
            let q = q.permute([0, 2, 3, 1, 4]).reshape([count, kv_heads, group * own, dim]);
            let mask = self.masks[&shape.window].repeat([1, 1, group, 1]);
            let out = match shape.softcap {
                None => Tensor::scaled_dot_product_attention(&q, &k, &v, Some(&mask), 0.0, false, scale, false),
                Some(cap) => capped_attention(scale, f64::from(cap), [&q, &k, &v], &mask),
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

/// Pads a length by at most a quarter, so that few distinct shapes occur.
fn padded(length: usize) -> usize {
    length.next_multiple_of((length.next_power_of_two() / 8).max(8))
}

/// Attention with softcapped scores, which libtorch's kernels do not support.
fn capped_attention(scale: f64, cap: f64, [q, k, v]: [&Tensor; 3], mask: &Tensor) -> Tensor {
    let scores = q.matmul(&k.transpose(-2, -1)).to_kind(Kind::Float) * scale;
    let scores = ((scores / cap).tanh() * cap).masked_fill(&mask.logical_not(), f64::NEG_INFINITY);
    scores.softmax(-1, Kind::Float).to_kind(v.kind()).matmul(v)
}

/// What each query attends to, [S, 1, R, C + R]: the context's rows without padding (`lengths`, [S, 1, 1, 1]), itself and
/// its segment's earlier rows, limited to the last `window` of all these. Padding attends to something too, so that softmax
/// stays finite; its output is ignored.
fn mask(size: PaddedSize, lengths: &Tensor, window: Option<usize>) -> Tensor {
    let [context, own] = [size.context as i64, size.own as i64];
    let options = (Kind::Int64, lengths.device());
    let key = Tensor::arange(context + own, options).view([1, 1, 1, -1]);
    let query = Tensor::arange(own, options).view([1, 1, -1, 1]);
    let in_context = key.less(context).logical_and(&key.less_tensor(lengths));
    let in_own = key.greater_equal(context).logical_and(&(&key - context).less_equal_tensor(&query));
    let seen = in_context.logical_or(&in_own);
    match window {
        None => seen,
        Some(window) => {
            let key_position = key.where_self(&key.less(context), &(&key - context + lengths));
            let query_position = &query + lengths;
            seen.logical_and(&(query_position - key_position).less(window as i64))
        }
    }
}

/// The pack's rows of a range of each segment, padded to `count` by repeating its first.
fn padded_rows(segments: &[&Segment], count: usize, range: impl Fn(&Segment) -> Range<usize>) -> Vec<i64> {
    let rows = segments.iter().flat_map(|segment| {
        let range = range(segment);
        // An empty range is padded with a row of the segment itself, which masks hide.
        let first = if range.is_empty() { segment.rows.start } else { range.start };
        (0..count).map(move |i| if i < range.len() { range.start + i } else { first } as i64)
    });
    rows.collect()
}

/// Index of each of the pack's rows in the concatenated outputs of the batches, [N].
fn output_indices(batches: &BTreeMap<PaddedSize, Vec<&Segment>>, num_rows: usize) -> Vec<i64> {
    let mut indices = vec![0; num_rows];
    let mut start = 0;
    for (size, segments) in batches {
        for segment in segments {
            segment.rows.clone().zip(start..).for_each(|(row, index)| indices[row] = index);
            start += size.own as i64;
        }
    }
    indices
}

fn indices(rows: &[i64], device: Device) -> Tensor {
    Tensor::from_slice(rows).to_device(device)
}
