//! Copies tiles of queries, keys and values from global to shared memory.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::super::sizes::Sizes;
use super::super::tile::{Keys, Queries, UNITS, is_key, is_query, key_index, query_index};

/// Stages the queries' rows of `x` as a tile, [side, pitch]; padding is zero.
#[cube]
pub(super) fn stage_queries<F: Float>(
    x: &Array<F>,
    queries: &Queries,
    tile: &mut SharedMemory<F>,
    #[comptime] sizes: Sizes,
) {
    let mut i = UNIT_POS;
    while i < comptime!(sizes.side * sizes.wide()) {
        let m = i / comptime!(sizes.wide());
        stage::<F>(x, tile, i, is_query(queries, m, sizes), query_index(queries, m, sizes.dim, sizes), sizes);
        i += UNITS;
    }
}

/// Stages the keys' rows of `x` as a tile, [side, pitch]; padding is zero.
#[cube]
pub(super) fn stage_keys<F: Float>(x: &Array<F>, keys: &Keys, tile: &mut SharedMemory<F>, #[comptime] sizes: Sizes) {
    let mut i = UNIT_POS;
    while i < comptime!(sizes.side * sizes.wide()) {
        let n = i / comptime!(sizes.wide());
        stage::<F>(x, tile, i, is_key(keys, n), key_index(keys, n, sizes), sizes);
        i += UNITS;
    }
}

/// Stages element `i` of a tile, [side, wide], from the row of `x` that begins at `start`; zero for padding.
#[cube]
fn stage<F: Float>(
    x: &Array<F>,
    tile: &mut SharedMemory<F>,
    i: u32,
    is_row: bool,
    start: u32,
    #[comptime] sizes: Sizes,
) {
    let wide = comptime!(sizes.wide());
    let (row, d) = (i / wide, i % wide);
    let real = is_row && d < sizes.dim;
    let index = select(real, start + d, 0);
    tile[(row * comptime!(sizes.pitch()) + d) as usize] = select(real, x[index as usize], F::new(0.0));
}
