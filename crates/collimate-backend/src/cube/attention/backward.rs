//! Attention backward: weights are recomputed from each row's log-sum-exp, once for the gradients of queries and once for
//! those of keys and values, so that no two cubes add to the same number.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::super::cubes::UNITS as ROW_UNITS;
use super::super::math::exp;
use super::forward::{first_seen, keys_at, next_position, sequence_of};
use super::sizes::Sizes;
use super::tables::{key_block, query_block, viewer};
use super::tile::{
    Keys, Queries, Rules, is_query, mix_keys, mix_queries, products, queries_of, query_index, score, sees, slope,
    viewing_queries,
};

/// Σ out · d_out of each row and head, the weighted mean of the weights' gradients: [N, H].
#[cube(launch)]
pub(super) fn dots_kernel<F: Float>(
    out: &Array<F>,
    d_out: &Array<F>,
    dots: &mut Array<f32>,
    count: u32,
    #[comptime] dim: u32,
    #[define(F)] _dtype: StorageType,
) {
    let mut i = ABSOLUTE_POS as u32;
    while i < count {
        let mut sum = 0.0f32;
        for d in 0..dim {
            let index = (i * dim + d) as usize;
            sum += f32::cast_from(out[index]) * f32::cast_from(d_out[index]);
        }
        dots[i as usize] = sum;
        i += CUBE_COUNT as u32 * ROW_UNITS;
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
pub(super) fn queries_kernel<F: Float>(
    q: &Array<F>,
    k: &Array<F>,
    v: &Array<F>,
    d_out: &Array<F>,
    lse: &Array<f32>,
    dots: &Array<f32>,
    blocks: &Array<u32>,
    d_q: &mut Array<F>,
    num_blocks: u32,
    scale: f32,
    cap: f32,
    window: u32,
    #[comptime] sizes: Sizes,
    #[define(F)] _dtype: StorageType,
) {
    let per_unit = comptime!(sizes.side / 16);
    let columns = comptime!(sizes.padded_dim() / 16);
    let mut stage = SharedMemory::<f32>::new(comptime!(sizes.stage() as usize));
    let mut d_scores = SharedMemory::<f32>::new(comptime!((sizes.side * (sizes.side + 1)) as usize));
    let mut scores = Array::<f32>::new(comptime!((per_unit * per_unit) as usize));
    let mut d_weights = Array::<f32>::new(comptime!((per_unit * per_unit) as usize));
    let mut mixed = Array::<f32>::new(comptime!((per_unit * columns) as usize));
    let rules = Rules { scale, cap, window };
    let tiles = comptime!(sizes.tiles_per_block());
    let mut task = CUBE_POS as u32;
    while task < num_blocks * tiles {
        let block = query_block(blocks, task / tiles);
        let tile = task % tiles;
        let queries = queries_of(&block, tile, sizes);
        let sequence = sequence_of(&block, &queries);
        #[unroll]
        for i in 0..comptime!(per_unit * columns) {
            mixed[i as usize] = 0.0;
        }
        let mut position = first_seen(&queries, &rules, sizes);
        while position < sequence.end {
            let keys = keys_at(position, &sequence, tile / comptime!(sizes.parts()));
            products::<F>(q, k, &queries, &keys, &mut stage, &mut scores, sizes);
            products::<F>(d_out, v, &queries, &keys, &mut stage, &mut d_weights, sizes);
            scores_backward(&mut scores, &mut d_weights, lse, dots, &queries, &keys, &rules, sizes);
            store_tile(&d_weights, &mut d_scores, sizes);
            sync_cube();
            mix_keys::<F>(&d_scores, k, &keys, &mut stage, &mut mixed, sizes);
            position = next_position(position, &sequence, sizes);
        }
        write_queries::<F>(&mixed, d_q, &queries, scale, sizes);
        task += CUBE_COUNT as u32;
    }
}

/// Replaces a unit's products by weights, and the gradients of weights by those of scores.
#[cube]
#[expect(clippy::too_many_arguments)] // a unit's registers
fn scores_backward(
    scores: &mut Array<f32>,
    d_weights: &mut Array<f32>,
    lse: &Array<f32>,
    dots: &Array<f32>,
    queries: &Queries,
    keys: &Keys,
    rules: &Rules,
    #[comptime] sizes: Sizes,
) {
    let per_unit = comptime!(sizes.side / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    #[unroll]
    for a in 0..per_unit {
        #[unroll]
        for b in 0..per_unit {
            let i = comptime!((a * per_unit + b) as usize);
            let (m, n) = (y + 16 * a, x + 16 * b);
            let (weight, d_score) =
                weight_and_gradient(scores[i], d_weights[i], lse, dots, queries, keys, rules, m, n, sizes);
            scores[i] = weight;
            d_weights[i] = d_score;
        }
    }
}

/// The weight of a query and a key, and the gradient of their score before the softcap.
#[cube]
#[expect(clippy::too_many_arguments)] // the kernel's arrays
pub(super) fn weight_and_gradient(
    product: f32,
    d_weight: f32,
    lse: &Array<f32>,
    dots: &Array<f32>,
    queries: &Queries,
    keys: &Keys,
    rules: &Rules,
    m: u32,
    n: u32,
    #[comptime] sizes: Sizes,
) -> (f32, f32) {
    let seen = sees(queries, keys, rules, m, n, sizes);
    let row = select(seen, query_index(queries, m, 1u32, sizes), 0) as usize;
    let score = score(product, rules, sizes);
    let weight = select(seen, exp(score - lse[row]), 0.0);
    (weight, weight * (d_weight - dots[row]) * slope(score, rules, sizes))
}

/// Stores the units' registers as a tile in shared memory, [side, side + 1].
#[cube]
fn store_tile(registers: &Array<f32>, tile: &mut SharedMemory<f32>, #[comptime] sizes: Sizes) {
    let per_unit = comptime!(sizes.side / 16);
    let pitch = comptime!(sizes.side + 1);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    #[unroll]
    for a in 0..per_unit {
        #[unroll]
        for b in 0..per_unit {
            let i = comptime!((a * per_unit + b) as usize);
            tile[((y + 16 * a) * pitch + x + 16 * b) as usize] = registers[i];
        }
    }
}

/// Writes the gradient of a tile of queries, times `scale`.
#[cube]
fn write_queries<F: Float>(
    mixed: &Array<f32>,
    d_q: &mut Array<F>,
    queries: &Queries,
    scale: f32,
    #[comptime] sizes: Sizes,
) {
    let per_unit = comptime!(sizes.side / 16);
    let columns = comptime!(sizes.padded_dim() / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    #[unroll]
    for a in 0..per_unit {
        let m = y + 16 * a;
        if is_query(queries, m, sizes) {
            let start = query_index(queries, m, sizes.dim, sizes);
            #[unroll]
            for c in 0..columns {
                let d = x + 16 * c;
                if d < sizes.dim {
                    d_q[(start + d) as usize] = F::cast_from(mixed[(a * columns + c) as usize] * scale);
                }
            }
        }
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
pub(super) fn keys_kernel<F: Float>(
    q: &Array<F>,
    k: &Array<F>,
    v: &Array<F>,
    d_out: &Array<F>,
    lse: &Array<f32>,
    dots: &Array<f32>,
    blocks: &Array<u32>,
    viewers: &Array<u32>,
    d_k: &mut Array<F>,
    d_v: &mut Array<F>,
    num_blocks: u32,
    scale: f32,
    cap: f32,
    window: u32,
    #[comptime] sizes: Sizes,
    #[define(F)] _dtype: StorageType,
) {
    let per_unit = comptime!(sizes.side / 16);
    let columns = comptime!(sizes.padded_dim() / 16);
    let mut stage = SharedMemory::<f32>::new(comptime!(sizes.stage() as usize));
    let mut tile = SharedMemory::<f32>::new(comptime!((sizes.side * (sizes.side + 1)) as usize));
    let mut scores = Array::<f32>::new(comptime!((per_unit * per_unit) as usize));
    let mut d_weights = Array::<f32>::new(comptime!((per_unit * per_unit) as usize));
    let mut d_keys = Array::<f32>::new(comptime!((per_unit * columns) as usize));
    let mut d_values = Array::<f32>::new(comptime!((per_unit * columns) as usize));
    let rules = Rules { scale, cap, window };
    let kv_heads = comptime!(sizes.kv_heads());
    let mut task = CUBE_POS as u32;
    while task < num_blocks * kv_heads {
        let block = key_block(blocks, task / kv_heads);
        let head = task % kv_heads;
        #[unroll]
        for i in 0..comptime!(per_unit * columns) {
            d_keys[i as usize] = 0.0;
            d_values[i as usize] = 0.0;
        }
        let mut entry = block.viewers_start;
        while entry < block.viewers_end {
            let viewer = viewer(viewers, entry);
            let (low, high, position) = (viewer.low, viewer.high, viewer.key_position);
            let keys = Keys { row: block.row, low, high, position, head };
            let mut skipped_rows = 0u32;
            while skipped_rows < viewer.rows {
                let mut skipped_heads = 0u32;
                while skipped_heads < sizes.group {
                    let queries = viewing_queries(&viewer, skipped_rows, head, skipped_heads, sizes);
                    products::<F>(q, k, &queries, &keys, &mut stage, &mut scores, sizes);
                    products::<F>(d_out, v, &queries, &keys, &mut stage, &mut d_weights, sizes);
                    scores_backward(&mut scores, &mut d_weights, lse, dots, &queries, &keys, &rules, sizes);
                    store_tile(&scores, &mut tile, sizes);
                    sync_cube();
                    mix_queries::<F>(&tile, d_out, &queries, &mut stage, &mut d_values, sizes);
                    store_tile(&d_weights, &mut tile, sizes);
                    sync_cube();
                    mix_queries::<F>(&tile, q, &queries, &mut stage, &mut d_keys, sizes);
                    skipped_heads += sizes.heads_per_tile;
                }
                skipped_rows += comptime!(sizes.queries());
            }
            entry += 1;
        }
        write_keys::<F>(&d_keys, d_k, block.row, block.rows, head, scale, sizes);
        write_keys::<F>(&d_values, d_v, block.row, block.rows, head, 1.0, sizes);
        task += CUBE_COUNT as u32;
    }
}

/// Writes the gradient of a tile of keys or values, times `scale`.
#[cube]
fn write_keys<F: Float>(
    mixed: &Array<f32>,
    out: &mut Array<F>,
    row: u32,
    rows: u32,
    head: u32,
    scale: f32,
    #[comptime] sizes: Sizes,
) {
    let per_unit = comptime!(sizes.side / 16);
    let columns = comptime!(sizes.padded_dim() / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    #[unroll]
    for b in 0..per_unit {
        let n = y + 16 * b;
        if n < rows {
            let start = ((row + n) * comptime!(sizes.kv_heads()) + head) * sizes.dim;
            #[unroll]
            for c in 0..columns {
                let d = x + 16 * c;
                if d < sizes.dim {
                    let i = comptime!((b * columns + c) as usize);
                    out[(start + d) as usize] = F::cast_from(mixed[i] * scale);
                }
            }
        }
    }
}
