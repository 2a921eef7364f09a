//! Divides queries and keys into blocks, and determines which keys of a block a query sees.

use std::ops::Range;

use super::{AttentionShape, Segment};
use crate::element::{Element, widen_into};
use crate::gemm::View;

/// Target number of rows of a tile of queries: rows of the segment times query heads per key-value head.
const TILE_ROWS: usize = 192;

/// Keys per block.
pub(super) const KEYS: usize = 256;

/// Consecutive keys.
#[derive(Debug, Clone)]
pub(super) struct KeyBlock {
    /// Rows of the pack.
    pub(super) rows: Range<usize>,
    /// Position of the first in the segment's sequence.
    pub(super) position: usize,
    /// Whether they are the segment's own rows, of which a query sees only those up to itself.
    own: bool,
}

/// Queries of one segment that are computed together.
#[derive(Debug, Clone)]
pub(super) struct QueryBlock<'a> {
    pub(super) segment: &'a Segment,
    /// Indices into the segment's own rows.
    pub(super) own: Range<usize>,
}

impl AttentionShape {
    /// The query blocks of a segment.
    pub(super) fn query_blocks<'a>(&self, segment: &'a Segment) -> impl Iterator<Item = QueryBlock<'a>> + use<'a> {
        let step = (TILE_ROWS / self.group()).clamp(16, 128);
        let total = segment.rows.len();
        (0..total).step_by(step).map(move |start| QueryBlock { segment, own: start..(start + step).min(total) })
    }

    /// One head of a range of rows of keys or values, [rows, head_dim]; what is not float32 is widened into `tile`.
    pub(super) fn head_view<'a, T: Element>(
        &self,
        data: &'a [T],
        rows: &Range<usize>,
        kv_head: usize,
        tile: &'a mut Vec<f32>,
    ) -> View<'a> {
        let (width, dim) = (self.key_width(), self.head_dim);
        let data = &data[rows.start * width + kv_head * dim..];
        match T::as_float32(data) {
            Some(data) => View::new(data, rows.len(), dim, width),
            None => {
                tile.resize(rows.len() * dim, 0.0);
                let heads = data.chunks(width).map(|row| &row[..dim]);
                tile.chunks_exact_mut(dim).zip(heads).for_each(|(to, from)| widen_into(from, to));
                View::new(tile, rows.len(), dim, dim)
            }
        }
    }
}

impl QueryBlock<'_> {
    /// Rows of the pack.
    pub(super) fn rows(&self) -> Range<usize> {
        self.segment.rows.start + self.own.start..self.segment.rows.start + self.own.end
    }

    /// Position of the first query in the segment's sequence.
    fn position(&self) -> usize {
        self.segment.context.len() + self.own.start
    }

    /// The blocks of keys that any of the queries sees: first the context's, then the segment's own.
    pub(super) fn key_blocks(&self, window: Option<usize>) -> impl Iterator<Item = KeyBlock> + use<> {
        let context = divide(self.segment.context.clone(), 0, false);
        let own = self.segment.rows.start..self.segment.rows.start + self.own.end;
        let first = window.map_or(0, |window| (self.position() + 1).saturating_sub(window));
        let all = context.chain(divide(own, self.segment.context.len(), true));
        all.filter(move |block| block.position + block.rows.len() > first)
    }

    /// The range of a block of keys that query `index` of this block sees.
    pub(super) fn sees(&self, index: usize, keys: &KeyBlock, window: Option<usize>) -> Range<usize> {
        let position = self.position() + index;
        let end =
            if keys.own { keys.rows.len().min((position + 1).saturating_sub(keys.position)) } else { keys.rows.len() };
        let start = window.map_or(0, |window| (position + 1).saturating_sub(window).saturating_sub(keys.position));
        start.min(end)..end
    }
}

fn divide(rows: Range<usize>, position: usize, own: bool) -> impl Iterator<Item = KeyBlock> {
    let first = rows.start;
    rows.clone().step_by(KEYS).map(move |start| KeyBlock {
        rows: start..(start + KEYS).min(rows.end),
        position: position + start - first,
        own,
    })
}

/// Copies rows for all query heads of one key-value head, head after head, times `factor`: [group · rows, head_dim].
pub(super) fn gather<T: Element>(
    shape: &AttentionShape,
    from: &[T],
    rows: &Range<usize>,
    kv_head: usize,
    factor: f32,
    to: &mut Vec<f32>,
) {
    let (dim, width) = (shape.head_dim, shape.query_width());
    to.clear();
    for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
        for row in rows.clone() {
            to.extend(from[row * width + head * dim..][..dim].iter().map(|x| factor * x.widen()));
        }
    }
}
