//! A cube's operations on a tile of queries and a tile of keys.
//!
//! Unit (x, y) of 16 by 16 owns the rows y + 16a of the tile of queries and the columns x + 16b.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::super::math::tanh;
use super::sizes::Sizes;
use super::tables::{QueryBlock, Viewer};

/// Units per cube.
pub(super) const UNITS: u32 = 256;

/// Rows and heads of a tile of queries.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Queries {
    /// The first row, the number of rows, and the first's position in its sequence.
    pub(super) row: u32,
    pub(super) rows: u32,
    pub(super) position: u32,
    /// The first head and the number of heads.
    pub(super) head: u32,
    pub(super) heads: u32,
}

/// Rows of a tile of keys, and which of them are attended to.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Keys {
    /// The tile's first row.
    pub(super) row: u32,
    /// The range of rows attended to, and the first's position in the sequence.
    pub(super) low: u32,
    pub(super) high: u32,
    pub(super) position: u32,
    /// The key head.
    pub(super) head: u32,
}

/// How products become scores.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Rules {
    pub(super) scale: f32,
    pub(super) cap: f32,
    pub(super) window: u32,
}

/// Tile `tile` of a block of queries, with the heads it covers.
#[cube]
pub(super) fn queries_of(block: &QueryBlock, tile: u32, #[comptime] sizes: Sizes) -> Queries {
    let parts = comptime!(sizes.parts());
    let skipped = tile % parts * sizes.heads_per_tile;
    Queries {
        row: block.row,
        rows: block.rows,
        position: block.context_len + block.row - block.segment,
        head: tile / parts * sizes.group + skipped,
        heads: min(sizes.heads_per_tile, sizes.group - skipped),
    }
}

/// A tile of queries within a viewer's rows, `skipped_rows` after the first, for the heads of one key head,
/// `skipped_heads` after the first.
#[cube]
pub(super) fn viewing_queries(
    viewer: &Viewer,
    skipped_rows: u32,
    head: u32,
    skipped_heads: u32,
    #[comptime] sizes: Sizes,
) -> Queries {
    Queries {
        row: viewer.row + skipped_rows,
        rows: min(comptime!(sizes.queries()), viewer.rows - skipped_rows),
        position: viewer.position + skipped_rows,
        head: head * sizes.group + skipped_heads,
        heads: min(sizes.heads_per_tile, sizes.group - skipped_heads),
    }
}

/// Whether row m of a tile is a query rather than padding.
#[cube]
pub(super) fn is_query(queries: &Queries, m: u32, #[comptime] sizes: Sizes) -> bool {
    let per_head = comptime!(sizes.queries());
    m / per_head < queries.heads && m % per_head < queries.rows
}

/// Index of row m's head, in [N, H · width].
#[cube]
pub(super) fn query_index(queries: &Queries, m: u32, #[comptime] width: u32, #[comptime] sizes: Sizes) -> u32 {
    let per_head = comptime!(sizes.queries());
    ((queries.row + m % per_head) * sizes.heads + queries.head + m / per_head) * width
}

/// Index of row n of a tile of keys, in [N, H_kv · head_dim].
#[cube]
pub(super) fn key_index(keys: &Keys, n: u32, #[comptime] sizes: Sizes) -> u32 {
    ((keys.row + n) * comptime!(sizes.kv_heads()) + keys.head) * sizes.dim
}

/// Whether row n of a tile is attended to.
#[cube]
pub(super) fn is_key(keys: &Keys, n: u32) -> bool {
    let row = keys.row + n;
    row >= keys.low && row < keys.high
}

/// Whether query m attends to key n.
#[cube]
pub(super) fn sees(queries: &Queries, keys: &Keys, rules: &Rules, m: u32, n: u32, #[comptime] sizes: Sizes) -> bool {
    let query = queries.position + m % comptime!(sizes.queries());
    let key = keys.position + keys.row + n - keys.low;
    let seen = is_key(keys, n) && is_query(queries, m, sizes) && key <= query;
    if sizes.windowed { seen && query - key < rules.window } else { seen }
}

/// Dot products of the queries' rows of `left` with the keys' rows of `right`, to `out` [side/16 · side/16].
#[cube]
pub(super) fn products<F: Float>(
    left: &Array<F>,
    right: &Array<F>,
    queries: &Queries,
    keys: &Keys,
    stage: &mut SharedMemory<f32>,
    out: &mut Array<f32>,
    #[comptime] sizes: Sizes,
) {
    let per_unit = comptime!(sizes.side / 16);
    let pitch = comptime!(sizes.side + 1);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    #[unroll]
    for i in 0..comptime!(per_unit * per_unit) {
        out[i as usize] = 0.0;
    }
    let mut first = 0u32;
    while first < sizes.dim {
        #[unroll]
        for i in 0..per_unit {
            // Sixteen neighboring units read neighboring columns.
            let (row, d) = (y + 16 * i, first + x);
            let in_head = d < sizes.dim;
            let real = is_query(queries, row, sizes) && in_head;
            let index = select(real, query_index(queries, row, sizes.dim, sizes) + d, 0);
            stage[(x * pitch + row) as usize] = select(real, f32::cast_from(left[index as usize]), 0.0);
            let real = is_key(keys, row) && in_head;
            let index = select(real, key_index(keys, row, sizes) + d, 0);
            stage[((16 + x) * pitch + row) as usize] = select(real, f32::cast_from(right[index as usize]), 0.0);
        }
        sync_cube();
        for d in 0..16u32 {
            #[unroll]
            for a in 0..per_unit {
                let l = stage[(d * pitch + y + 16 * a) as usize];
                #[unroll]
                for b in 0..per_unit {
                    let r = stage[((16 + d) * pitch + x + 16 * b) as usize];
                    out[(a * per_unit + b) as usize] += l * r;
                }
            }
        }
        sync_cube();
        first += 16;
    }
}

/// Turns a product into a score: scaled and softcapped.
#[cube]
pub(super) fn score(product: f32, rules: &Rules, #[comptime] sizes: Sizes) -> f32 {
    let score = product * rules.scale;
    if sizes.capped { rules.cap * tanh(score / rules.cap) } else { score }
}

/// The derivative of the softcap, given the capped score.
#[cube]
pub(super) fn slope(score: f32, rules: &Rules, #[comptime] sizes: Sizes) -> f32 {
    if sizes.capped { 1.0 - (score / rules.cap) * (score / rules.cap) } else { 1.0f32.runtime() }
}

/// Adds to `out` [side/16, padded_dim/16] the keys' rows of `right`, weighted by the rows of `weights` [side, side + 1].
#[cube]
pub(super) fn mix_keys<F: Float>(
    weights: &SharedMemory<f32>,
    right: &Array<F>,
    keys: &Keys,
    stage: &mut SharedMemory<f32>,
    out: &mut Array<f32>,
    #[comptime] sizes: Sizes,
) {
    let padded = comptime!(sizes.padded_dim());
    let staged = comptime!(sizes.staged_rows());
    let mut first = 0u32;
    while first < sizes.side {
        let mut i = UNIT_POS;
        while i < comptime!(staged * padded) {
            let (n, d) = (first + i / padded, i % padded);
            let real = is_key(keys, n) && d < sizes.dim;
            let index = select(real, key_index(keys, n, sizes) + d, 0);
            stage[i as usize] = select(real, f32::cast_from(right[index as usize]), 0.0);
            i += UNITS;
        }
        sync_cube();
        add_staged(weights, stage, first, out, false, sizes);
        sync_cube();
        first += staged;
    }
}

/// Adds to `out` [side/16, padded_dim/16] the queries' rows of `right`, weighted by the columns of `weights`
/// [side, side + 1].
#[cube]
pub(super) fn mix_queries<F: Float>(
    weights: &SharedMemory<f32>,
    right: &Array<F>,
    queries: &Queries,
    stage: &mut SharedMemory<f32>,
    out: &mut Array<f32>,
    #[comptime] sizes: Sizes,
) {
    let padded = comptime!(sizes.padded_dim());
    let staged = comptime!(sizes.staged_rows());
    let mut first = 0u32;
    while first < sizes.side {
        let mut i = UNIT_POS;
        while i < comptime!(staged * padded) {
            let (m, d) = (first + i / padded, i % padded);
            let real = is_query(queries, m, sizes) && d < sizes.dim;
            let index = select(real, query_index(queries, m, sizes.dim, sizes) + d, 0);
            stage[i as usize] = select(real, f32::cast_from(right[index as usize]), 0.0);
            i += UNITS;
        }
        sync_cube();
        add_staged(weights, stage, first, out, true, sizes);
        sync_cube();
        first += staged;
    }
}

/// Adds the staged rows, weighted by the columns of `weights` from `first` on or, transposed, by its rows.
#[cube]
fn add_staged(
    weights: &SharedMemory<f32>,
    stage: &SharedMemory<f32>,
    first: u32,
    out: &mut Array<f32>,
    #[comptime] transposed: bool,
    #[comptime] sizes: Sizes,
) {
    let per_unit = comptime!(sizes.side / 16);
    let pitch = comptime!(sizes.side + 1);
    let padded = comptime!(sizes.padded_dim());
    let columns = comptime!(padded / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    for i in 0..comptime!(sizes.staged_rows()) {
        #[unroll]
        for c in 0..columns {
            let r = stage[(i * padded + x + 16 * c) as usize];
            #[unroll]
            for a in 0..per_unit {
                let row = y + 16 * a;
                let index = if transposed { (first + i) * pitch + row } else { row * pitch + first + i };
                out[(a * columns + c) as usize] += weights[index as usize] * r;
            }
        }
    }
}
