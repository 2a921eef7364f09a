//! A batch of token ids as the tensors that a forward pass reads.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use collimate_data::{GroupBatch, PackedResponse};

use crate::rope::Rope;

/// Added to scores that may not be attended to; its exponential is exactly zero in every float type.
pub(crate) const MASKED: f32 = -3.0e4;

/// Numbers of a tile's attention scores at most (64 MiB of float32), unless one span alone has more.
const TILE_ELEMENTS: usize = 16 << 20;

/// Tensors of a pack of sequences: tokens, rotary tables, and for each span who may attend to whom.
pub(crate) struct Pack<B: Backend> {
    pub(crate) tokens: Tensor<B, 1, Int>,
    /// [N, 1, head_dim / 2].
    pub(crate) cos: Tensor<B, 3>,
    /// [N, 1, head_dim / 2].
    pub(crate) sin: Tensor<B, 3>,
    /// Spans of tokens that attend among themselves only, those of similar length together.
    pub(crate) tiles: Vec<Tile<B>>,
    /// Where each token stands in the tiles' rows, [N]; `None` where it is its own place.
    pub(crate) restore: Option<Tensor<B, 1, Int>>,
}

/// Spans whose attention is computed as one batch, the shorter ones padded to the longest.
pub(crate) struct Tile<B: Backend> {
    /// Number of spans, S.
    pub(crate) count: usize,
    /// Tokens of the longest span, n.
    pub(crate) len: usize,
    /// The pack's row for each place of the tile, [S · n]; `None` where the tile is the whole pack.
    pub(crate) rows: Option<Tensor<B, 1, Int>>,
    /// Additive masks [S, 1, n, n], by the layers' window.
    masks: BTreeMap<Option<usize>, Tensor<B, 4>>,
}

impl<B: Backend> Tile<B> {
    /// Mask for layers with this window, [S, 1, n, n].
    pub(crate) fn mask(&self, window: Option<usize>) -> Tensor<B, 4> {
        self.masks[&window].clone()
    }
}

impl<B: Backend> Pack<B> {
    pub(crate) fn new(
        batch: &GroupBatch,
        rope: &Rope,
        windows: &[Option<usize>],
        num_heads: usize,
        device: &B::Device,
    ) -> Self {
        let (cos, sin) = rotary::<B>(rope, &batch.positions, device);
        let owners = owners(batch);
        let divided = divide(&batch.spans, num_heads);
        let single = batch.spans.len() == 1;
        let tiles = divided.iter().map(|spans| {
            let len = spans.iter().map(Range::len).max().unwrap_or(0);
            let rows = spans.iter().flat_map(|span| (0..len).map(|i| place(span, i) as i32)).collect();
            let masks = windows.iter().map(|&window| {
                let masks = spans.iter().flat_map(|span| span_mask(span, len, &owners, &batch.positions, window));
                let data = TensorData::new(masks.collect::<Vec<f32>>(), [spans.len(), 1, len, len]);
                (window, Tensor::from_data(data, device))
            });
            let masks = masks.collect();
            Tile { count: spans.len(), len, rows: (!single).then(|| ints(rows, device)), masks }
        });
        let tiles = tiles.collect();
        Self {
            tokens: ints(batch.tokens.iter().map(|&t| t as i32).collect(), device),
            cos,
            sin,
            tiles,
            restore: (!single).then(|| ints(restoring(&divided, batch.tokens.len()), device)),
        }
    }
}

fn ints<B: Backend>(values: Vec<i32>, device: &B::Device) -> Tensor<B, 1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Spans by length, divided so that padding at most doubles a tile's scores and no tile is too large.
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

/// The row of a span's place; places past its end repeat its first row and are masked.
fn place(span: &Range<usize>, i: usize) -> usize {
    if i < span.len() { span.start + i } else { span.start }
}

/// Where each of the pack's rows stands in the concatenated tiles, [N].
fn restoring(tiles: &[Vec<Range<usize>>], num_tokens: usize) -> Vec<i32> {
    let mut places = vec![0; num_tokens];
    let mut offset = 0;
    for spans in tiles {
        let len = spans.iter().map(Range::len).max().unwrap_or(0);
        for span in spans {
            span.clone().enumerate().for_each(|(i, row)| places[row] = (offset + i) as i32);
            offset += len;
        }
    }
    places
}

/// Cosines and sines of positions, each [N, 1, head_dim / 2].
pub(crate) fn rotary<B: Backend>(rope: &Rope, positions: &[u32], device: &B::Device) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let (cos, sin) = rope.tables(positions);
    let n = positions.len();
    let tensor = |values: Vec<f32>| {
        let half = values.len() / n;
        Tensor::from_data(TensorData::new(values, [n, 1, half]), device)
    };
    (tensor(cos), tensor(sin))
}

/// The number of the response that a token belongs to; prompts belong to none.
fn owners(batch: &GroupBatch) -> Vec<Option<usize>> {
    let mut owners = vec![None; batch.tokens.len()];
    for (number, PackedResponse { tokens, .. }) in batch.responses().enumerate() {
        owners[tokens.clone()].fill(Some(number));
    }
    owners
}

/// Row i may see column j where j is not later, is of the prompt or of the same response, and within the window.
/// Columns past the span's end are masked; rows past it see what they like, nobody reads them.
fn span_mask(
    span: &Range<usize>,
    len: usize,
    owners: &[Option<usize>],
    positions: &[u32],
    window: Option<usize>,
) -> Vec<f32> {
    let mut mask = Vec::with_capacity(len * len);
    for i in 0..len {
        mask.extend((0..len).map(|j| {
            let (row, column) = (place(span, i), place(span, j));
            let related = owners[column].is_none() || owners[column] == owners[row];
            let near = window.is_none_or(|w| positions[row] < positions[column] + w as u32);
            let sees = j < span.len() && (i >= span.len() || (j <= i && related && near));
            if sees { 0.0 } else { MASKED }
        }));
    }
    mask
}
