//! Attention over padded tiles of spans, with scores materialized and masked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn::backend::Autodiff;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor, TensorData};
use collimate_kernels::{AttentionShape, Segment};

use super::indices;
use crate::attention_map::{AttentionMap, AttentionSaved};
use crate::dtype::{in_dtype, in_float32};

/// Added to the scores of masked keys; its exponential is exactly zero in every dtype.
const MASKED: f32 = -3.0e4;

/// Maximum scores per tile (64 MiB of float32), unless a single span has more.
const TILE_ELEMENTS: usize = 16 << 20;

/// A pack's segments, grouped into spans and the spans into tiles.
#[derive(Debug, Clone)]
pub struct Tiles<B: Backend> {
    tiles: Vec<Tile<B>>,
    /// Index of each of the pack's rows in the concatenated tiles, [N].
    restore: Tensor<B, 1, Int>,
}

/// S spans computed as one batch, padded to the longest.
#[derive(Debug, Clone)]
struct Tile<B: Backend> {
    /// Number of spans, S.
    count: usize,
    /// Length of the longest span, n.
    len: usize,
    /// The pack's row of each of the tile's, [S · n].
    rows: Tensor<B, 1, Int>,
    /// Additive masks, [S, 1, n, n], by the layers' window.
    masks: BTreeMap<Option<usize>, Tensor<B, 4>>,
}

impl<B: Backend> Tiles<B> {
    /// The same tiles under automatic differentiation.
    fn tracked(&self) -> Tiles<Autodiff<B>> {
        let tile = |tile: &Tile<B>| Tile {
            count: tile.count,
            len: tile.len,
            rows: Tensor::from_inner(tile.rows.clone()),
            masks: tile.masks.iter().map(|(&window, mask)| (window, Tensor::from_inner(mask.clone()))).collect(),
        };
        Tiles { tiles: self.tiles.iter().map(tile).collect(), restore: Tensor::from_inner(self.restore.clone()) }
    }

    /// Attention forward from queries, keys and values as in [`AttentionSaved`] to [N, H · head_dim], and the log-sum-exp of
    /// each row's scores, [N, H]; sinks, if there are any, are [1, H].
    pub fn attention(
        &self,
        shape: &AttentionShape,
        [q, k, v]: [Tensor<B, 2>; 3],
        sinks: Option<&Tensor<B, 2>>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        // Queries are scaled before they are rearranged, because backends are several times slower on views. In
        // bfloat16 that would round a second time, so the float32 scores are scaled instead.
        let q = if q.dtype() == DType::F32 { q.mul_scalar(shape.scale) } else { q };
        let outputs = self.tiles.iter().map(|tile| attend_in_tile(shape, tile, [&q, &k, &v], sinks));
        let (outputs, lses) = outputs.unzip();
        let [out, lse] = [outputs, lses].map(|parts| Tensor::cat(parts, 0).select(0, self.restore.clone()));
        (out, lse)
    }
}

impl<B: Backend> AttentionMap<B> for Tiles<B> {
    fn new(segments: &[Segment], shape: &AttentionShape, windows: &[Option<usize>], device: &B::Device) -> Self {
        let divided = divide(&spans(segments), shape.heads);
        let num_rows = segments.iter().map(|segment| segment.rows.end).max().unwrap_or(0);
        let windows: BTreeSet<_> = windows.iter().copied().collect();
        let tiles = divided.iter().map(|spans| {
            let len = spans.iter().map(Range::len).max().unwrap_or(0);
            let rows: Vec<u32> = spans.iter().flat_map(|span| padded_rows(span, len)).collect();
            let masks = windows.iter().map(|&window| {
                let masks: Vec<f32> = spans.iter().flat_map(|span| span_mask(span, len, segments, window)).collect();
                (window, Tensor::from_data(TensorData::new(masks, [spans.len(), 1, len, len]), device))
            });
            Tile { count: spans.len(), len, rows: indices(&rows, device), masks: masks.collect() }
        });
        Self { tiles: tiles.collect(), restore: indices(&tile_indices(&divided, num_rows), device) }
    }

    fn attend(
        &self,
        shape: &AttentionShape,
        q: &Tensor<B, 2>,
        k: &Tensor<B, 2>,
        v: &Tensor<B, 2>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let (out, _) = self.attention(shape, [q.clone(), k.clone(), v.clone()], None);
        (out, Tensor::empty([0, 0], &q.device()))
    }

    fn attend_backward(
        &self,
        shape: &AttentionShape,
        saved: AttentionSaved<'_, B>,
        d_out: &Tensor<B, 2>,
    ) -> [Tensor<B, 2>; 3] {
        let tiles = self.tracked();
        let attention = |projections| tiles.attention(shape, projections, None).0;
        super::gradients([saved.q, saved.k, saved.v], d_out, attention)
    }

    fn attend_with_sinks(
        &self,
        shape: &AttentionShape,
        projections: [&Tensor<B, 2>; 3],
        sinks: &Tensor<B, 2>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        self.attention(shape, projections.map(Clone::clone), Some(sinks))
    }

    fn attend_backward_with_sinks(
        &self,
        shape: &AttentionShape,
        saved: AttentionSaved<'_, B>,
        sinks: &Tensor<B, 2>,
        d_out: &Tensor<B, 2>,
    ) -> [Tensor<B, 2>; 3] {
        let (tiles, sinks) = (self.tracked(), Tensor::from_inner(sinks.clone()));
        let attention = |projections| tiles.attention(shape, projections, Some(&sinks)).0;
        super::gradients([saved.q, saved.k, saved.v], d_out, attention)
    }
}

/// Output and log-sum-exps of a tile's rows.
fn attend_in_tile<B: Backend>(
    shape: &AttentionShape,
    tile: &Tile<B>,
    [q, k, v]: [&Tensor<B, 2>; 3],
    sinks: Option<&Tensor<B, 2>>,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let (heads, kv_heads, dim) = (shape.heads, shape.kv_heads, shape.head_dim);
    let (count, n) = (tile.count, tile.len);
    let group = heads / kv_heads;
    // [N, heads · dim] to [S, heads, n, dim].
    let rows = |t: &Tensor<B, 2>, heads: usize| {
        t.clone().select(0, tile.rows.clone()).reshape([count, n, heads, dim]).swap_dims(1, 2)
    };
    // Query heads that share a key head are stacked as rows: one product serves the whole group.
    let q = rows(q, heads).reshape([count, kv_heads, group * n, dim]);
    let dtype = q.dtype();
    let scores = in_float32(q.matmul(rows(k, kv_heads).swap_dims(2, 3)).reshape([count, heads, n, n]));
    let scores = if dtype == DType::F32 { scores } else { scores.mul_scalar(shape.scale) };
    let scores = match shape.softcap {
        Some(cap) => burn::tensor::activation::tanh(scores.div_scalar(cap)).mul_scalar(cap),
        None => scores,
    };
    let sinks = sinks.map(|sinks| sinks.clone().reshape([1, heads, 1, 1]));
    let (weights, lse) = softmax(scores + tile.masks[&shape.window].clone(), sinks);
    let weights = weights.reshape([count, kv_heads, group * n, n]);
    let mixed = in_dtype(weights, dtype).matmul(rows(v, kv_heads)).reshape([count, heads, n, dim]);
    let out = mixed.swap_dims(1, 2).reshape([count * n, heads * dim]);
    (out, lse.swap_dims(1, 2).reshape([count * n, heads]))
}

/// Softmax over the last dimension, with one more score that is left out of the result; and the log-sum-exp.
///
/// burn's own would use a backend's kernel only without autodiff, so the two passes would differ by 1e-5 nats per
/// response.
fn softmax<B: Backend>(scores: Tensor<B, 4>, sinks: Option<Tensor<B, 4>>) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let highest = scores.clone().max_dim(3).detach();
    let highest = match &sinks {
        Some(sinks) => highest.clone().max_pair(sinks.clone().detach().expand(highest.dims())),
        None => highest,
    };
    let weights = (scores - highest.clone()).exp();
    let total = weights.clone().sum_dim(3);
    let total = match sinks {
        Some(sinks) => total + (sinks - highest.clone()).exp(),
        None => total,
    };
    (weights / total.clone(), total.log() + highest)
}

/// The smallest ranges of rows that attend only among themselves.
fn spans(segments: &[Segment]) -> Vec<Range<usize>> {
    let mut extents: Vec<Range<usize>> = segments.iter().map(extent).collect();
    extents.sort_by_key(|range| (range.start, range.end));
    let mut spans: Vec<Range<usize>> = Vec::new();
    for range in extents {
        match spans.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => spans.push(range),
        }
    }
    spans
}

fn extent(segment: &Segment) -> Range<usize> {
    match segment.context.is_empty() {
        true => segment.rows.clone(),
        false => segment.context.start.min(segment.rows.start)..segment.context.end.max(segment.rows.end),
    }
}

/// Groups spans of similar length, so that padding at most doubles a tile's scores and no tile is too large.
fn divide(spans: &[Range<usize>], num_heads: usize) -> Vec<Vec<Range<usize>>> {
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|span| (std::cmp::Reverse(span.len()), span.start));
    let mut tiles: Vec<Vec<Range<usize>>> = Vec::new();
    for span in sorted {
        let fits = tiles.last().is_some_and(|tile| {
            let longest = tile[0].len();
            let elements = (tile.len() + 1) * num_heads * longest * longest;
            2 * span.len() * span.len() >= longest * longest && elements <= TILE_ELEMENTS
        });
        match tiles.last_mut() {
            Some(tile) if fits => tile.push(span),
            _ => tiles.push(vec![span]),
        }
    }
    tiles
}

/// The rows of a span, padded to `len` by repeating its first.
fn padded_rows(span: &Range<usize>, len: usize) -> impl Iterator<Item = u32> + use<> {
    let span = span.clone();
    (0..len).map(move |i| if i < span.len() { span.start + i } else { span.start } as u32)
}

/// Index of each of the pack's rows in the concatenated tiles, [N].
fn tile_indices(tiles: &[Vec<Range<usize>>], num_rows: usize) -> Vec<u32> {
    let mut indices = vec![0; num_rows];
    let mut offset = 0;
    for spans in tiles {
        let len = spans.iter().map(Range::len).max().unwrap_or(0);
        for span in spans {
            span.clone().enumerate().for_each(|(i, row)| indices[row] = (offset + i) as u32);
            offset += len;
        }
    }
    indices
}

/// The additive mask of a span, [len, len]: a row attends to its segment's context and to the segment's rows up to
/// itself, within the window. Padding rows attend to everything; their output is ignored.
fn span_mask(span: &Range<usize>, len: usize, segments: &[Segment], window: Option<usize>) -> Vec<f32> {
    let mut mask = vec![0.0; len * len];
    mask[..span.len() * len].fill(MASKED);
    for segment in segments.iter().filter(|s| !s.rows.is_empty() && span.contains(&s.rows.start)) {
        for row in segment.rows.clone() {
            let position = segment.context.len() + row - segment.rows.start;
            let sequence = segment.context.clone().chain(segment.rows.start..row + 1);
            let hidden = window.map_or(0, |window| (position + 1).saturating_sub(window));
            sequence.skip(hidden).for_each(|column| mask[(row - span.start) * len + column - span.start] = 0.0);
        }
    }
    mask
}
