//! What a cube does with a tile of queries and a tile of keys.
//!
//! Unit (x, y) of 16 by 16 holds the rows y + 16a of the tile of queries and the columns x + 16b.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::super::math::tanh;
use super::plan::Sizes;

/// Units of a cube.
pub(super) const UNITS: u32 = 256;

/// Rows of a pack and heads in a tile of queries.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Queries {
    /// The first row, how many there are, and the first's place in its sequence.
    pub(super) row: u32,
    pub(super) rows: u32,
    pub(super) place: u32,
    /// The first head, and how many there are.
    pub(super) head: u32,
    pub(super) heads: u32,
}

/// Rows of a pack in a tile of keys, and which of them are seen.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Keys {
    /// The tile's first row.
    pub(super) row: u32,
    /// Those that are seen, and the first's place in the sequence.
    pub(super) low: u32,
    pub(super) high: u32,
    pub(super) place: u32,
    /// The head of keys.
    pub(super) head: u32,
}

/// How scores are made of products.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Rules {
    pub(super) scale: f32,
    pub(super) cap: f32,
    pub(super) window: u32,
}

/// Whether a tile's row m is a query.
#[cube]
pub(super) fn is_query(queries: &Queries, m: u32, #[comptime] sizes: Sizes) -> bool {
    let per_head = comptime!(sizes.queries());
    m / per_head < queries.heads && m % per_head < queries.rows
}

/// Where the row m of a tile of queries has its head, in [N, H · head_dim] for `width` = head_dim.
#[cube]
pub(super) fn query_place(queries: &Queries, m: u32, #[comptime] width: u32, #[comptime] sizes: Sizes) -> u32 {
    let per_head = comptime!(sizes.queries());
    ((queries.row + m % per_head) * sizes.heads + queries.head + m / per_head) * width
}

#[cube]
pub(super) fn key_place(keys: &Keys, n: u32, #[comptime] sizes: Sizes) -> u32 {
    ((keys.row + n) * comptime!(sizes.kv_heads()) + keys.head) * sizes.dim
}

#[cube]
pub(super) fn is_key(keys: &Keys, n: u32) -> bool {
    let row = keys.row + n;
    row >= keys.low && row < keys.high
}

/// Whether the query m sees the key n.
#[cube]
pub(super) fn sees(queries: &Queries, keys: &Keys, rules: &Rules, m: u32, n: u32, #[comptime] sizes: Sizes) -> bool {
    let query = queries.place + m % comptime!(sizes.queries());
    let key = keys.place + keys.row + n - keys.low;
    let seen = is_key(keys, n) && is_query(queries, m, sizes) && key <= query;
    if sizes.windowed { seen && query - key < rules.window } else { seen }
}

/// Products of each query's numbers in `left` with each key's in `right`, to `out` [side/16 · side/16].
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
    let of_unit = comptime!(sizes.side / 16);
    let pitch = comptime!(sizes.side + 1);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    #[unroll]
    for i in 0..comptime!(of_unit * of_unit) {
        out[i as usize] = 0.0;
    }
    let mut first = 0u32;
    while first < sizes.dim {
        #[unroll]
        for i in 0..of_unit {
            // Sixteen units read a row's numbers one after the other.
            let (row, d) = (y + 16 * i, first + x);
            let is_number = d < sizes.dim;
            let seen = is_query(queries, row, sizes) && is_number;
            let place = select(seen, query_place(queries, row, sizes.dim, sizes) + d, 0);
            stage[(x * pitch + row) as usize] = select(seen, f32::cast_from(left[place as usize]), 0.0);
            let seen = is_key(keys, row) && is_number;
            let place = select(seen, key_place(keys, row, sizes) + d, 0);
            stage[((16 + x) * pitch + row) as usize] = select(seen, f32::cast_from(right[place as usize]), 0.0);
        }
        sync_cube();
        for d in 0..16u32 {
            #[unroll]
            for a in 0..of_unit {
                let l = stage[(d * pitch + y + 16 * a) as usize];
                #[unroll]
                for b in 0..of_unit {
                    let r = stage[((16 + d) * pitch + x + 16 * b) as usize];
                    out[(a * of_unit + b) as usize] += l * r;
                }
            }
        }
        sync_cube();
        first += 16;
    }
}

/// Scores of products: scaled, and squashed where the model does so.
#[cube]
pub(super) fn score(product: f32, rules: &Rules, #[comptime] sizes: Sizes) -> f32 {
    let score = product * rules.scale;
    if sizes.capped { rules.cap * tanh(score / rules.cap) } else { score }
}

/// The derivative of a score's squashing, given the score.
#[cube]
pub(super) fn slope(score: f32, rules: &Rules, #[comptime] sizes: Sizes) -> f32 {
    if sizes.capped { 1.0 - (score / rules.cap) * (score / rules.cap) } else { 1.0f32.runtime() }
}

/// Adds to `out` [side/16, padded_dim/16] each query's weights, a row of `weights` [side, side + 1], times the keys' rows of
/// `right`.
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
            let seen = is_key(keys, n) && d < sizes.dim;
            let place = select(seen, key_place(keys, n, sizes) + d, 0);
            stage[i as usize] = select(seen, f32::cast_from(right[place as usize]), 0.0);
            i += UNITS;
        }
        sync_cube();
        add_staged(weights, stage, first, out, false, sizes);
        sync_cube();
        first += staged;
    }
}

/// Adds to `out` [side/16, padded_dim/16] each key's weights, a column of `weights` [side, side + 1], times the queries'
/// rows of `right`.
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
            let seen = is_query(queries, m, sizes) && d < sizes.dim;
            let place = select(seen, query_place(queries, m, sizes.dim, sizes) + d, 0);
            stage[i as usize] = select(seen, f32::cast_from(right[place as usize]), 0.0);
            i += UNITS;
        }
        sync_cube();
        add_staged(weights, stage, first, out, true, sizes);
        sync_cube();
        first += staged;
    }
}

/// Adds the weights of the staged rows, which are columns of `weights` from `first` on or, transposed, its rows, times these rows.
#[cube]
fn add_staged(
    weights: &SharedMemory<f32>,
    stage: &SharedMemory<f32>,
    first: u32,
    out: &mut Array<f32>,
    #[comptime] transposed: bool,
    #[comptime] sizes: Sizes,
) {
    let of_unit = comptime!(sizes.side / 16);
    let pitch = comptime!(sizes.side + 1);
    let padded = comptime!(sizes.padded_dim());
    let columns = comptime!(padded / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    for i in 0..comptime!(sizes.staged_rows()) {
        #[unroll]
        for c in 0..columns {
            let r = stage[(i * padded + x + 16 * c) as usize];
            #[unroll]
            for a in 0..of_unit {
                let row = y + 16 * a;
                let place = if transposed { (first + i) * pitch + row } else { row * pitch + first + i };
                out[(a * columns + c) as usize] += weights[place as usize] * r;
            }
        }
    }
}
