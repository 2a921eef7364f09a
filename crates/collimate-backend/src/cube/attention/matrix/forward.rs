//! Attention forward on matrix units: each row's log-sum-exp first, then the weighted sums.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::super::super::math::exp;
use super::super::forward::{NOTHING, Sequence, first_seen, keys_at, next_position, sequence_of};
use super::super::sizes::Sizes;
use super::super::tables::query_block;
use super::super::tile::{Keys, Queries, Rules, UNITS, is_query, queries_of, query_index, score, sees};
use super::staging::{stage_keys, stage_queries};
use super::tile::{mix, products, write_queries, zeros};

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
pub(in super::super) fn matrix_forward_kernel<F: Float>(
    q: &Array<F>,
    k: &Array<F>,
    v: &Array<F>,
    blocks: &Array<u32>,
    out: &mut Array<F>,
    lse: &mut Array<f32>,
    num_blocks: u32,
    scale: f32,
    cap: f32,
    window: u32,
    #[comptime] sizes: Sizes,
    #[define(F)] _dtype: StorageType,
) {
    let mut query_tile = SharedMemory::<F>::new(comptime!(sizes.tile_len()));
    let mut key_tile = SharedMemory::<F>::new(comptime!(sizes.tile_len()));
    let mut scores = SharedMemory::<f32>::new(comptime!(sizes.score_len()));
    let mut weights = SharedMemory::<F>::new(comptime!(sizes.weight_len()));
    let mut lse_tile = SharedMemory::<f32>::new(sizes.side as usize);
    let rules = Rules { scale, cap, window };
    let tiles = comptime!(sizes.tiles_per_block());
    let mut task = CUBE_POS as u32;
    while task < num_blocks * tiles {
        let block = query_block(blocks, task / tiles);
        let tile = task % tiles;
        let head = tile / comptime!(sizes.parts());
        let queries = queries_of(&block, tile, sizes);
        let sequence = sequence_of(&block, &queries);
        stage_queries::<F>(q, &queries, &mut query_tile, sizes);
        log_sum_exps::<F>(
            k,
            lse,
            &queries,
            &sequence,
            head,
            &rules,
            &query_tile,
            &mut key_tile,
            &mut scores,
            &mut lse_tile,
            sizes,
        );
        let mut mixed = zeros(sizes);
        let mut position = first_seen(&queries, &rules, sizes);
        while position < sequence.end {
            let keys = keys_at(position, &sequence, head);
            stage_keys::<F>(k, &keys, &mut key_tile, sizes);
            sync_cube();
            products::<F>(&query_tile, &key_tile, &mut scores, sizes);
            sync_cube();
            stage_keys::<F>(v, &keys, &mut key_tile, sizes);
            weigh::<F>(&scores, &lse_tile, &queries, &keys, &rules, &mut weights, sizes);
            sync_cube();
            mix::<F>(&weights, &key_tile, &mut mixed, false, sizes);
            sync_cube();
            position = next_position(position, &sequence, sizes);
        }
        write_queries::<F>(&mixed, out, &queries, 1.0, &mut scores, sizes);
        task += CUBE_COUNT as u32;
    }
}

/// Turns a tile of products into weights, given the rows' log-sum-exps.
#[cube]
fn weigh<F: Float>(
    products: &SharedMemory<f32>,
    lse_tile: &SharedMemory<f32>,
    queries: &Queries,
    keys: &Keys,
    rules: &Rules,
    weights: &mut SharedMemory<F>,
    #[comptime] sizes: Sizes,
) {
    let mut i = UNIT_POS;
    while i < comptime!(sizes.side * sizes.side) {
        let (m, n) = (i / sizes.side, i % sizes.side);
        let product = products[(m * comptime!(sizes.score_pitch()) + n) as usize];
        let weight = exp(score(product, rules, sizes) - lse_tile[m as usize]);
        let weight = select(sees(queries, keys, rules, m, n, sizes), weight, 0.0);
        weights[(m * comptime!(sizes.weight_pitch()) + n) as usize] = F::cast_from(weight);
        i += UNITS;
    }
}

/// The log-sum-exp of each row's scores, to `lse_tile` and `lse`. Neighboring units share a row.
#[cube]
#[expect(clippy::too_many_arguments)] // the kernel's arrays
fn log_sum_exps<F: Float>(
    k: &Array<F>,
    lse: &mut Array<f32>,
    queries: &Queries,
    sequence: &Sequence,
    head: u32,
    rules: &Rules,
    query_tile: &SharedMemory<F>,
    key_tile: &mut SharedMemory<F>,
    scores: &mut SharedMemory<f32>,
    lse_tile: &mut SharedMemory<f32>,
    #[comptime] sizes: Sizes,
) {
    let units_per_row = comptime!(UNITS / sizes.side);
    let (m, part) = (UNIT_POS / units_per_row, UNIT_POS % units_per_row);
    let mut highest = NOTHING.runtime();
    let mut total = 0.0f32;
    let mut position = first_seen(queries, rules, sizes);
    while position < sequence.end {
        let keys = keys_at(position, sequence, head);
        stage_keys::<F>(k, &keys, key_tile, sizes);
        sync_cube();
        products::<F>(query_tile, key_tile, scores, sizes);
        sync_cube();
        let mut n = part;
        while n < sizes.side {
            if sees(queries, &keys, rules, m, n, sizes) {
                let x = score(scores[(m * comptime!(sizes.score_pitch()) + n) as usize], rules, sizes);
                let e = exp(-(x - highest).abs());
                total = select(x > highest, total * e + 1.0, total + e);
                highest = max(highest, x);
            }
            n += units_per_row;
        }
        sync_cube();
        position = next_position(position, sequence, sizes);
    }
    scores[UNIT_POS as usize] = highest;
    scores[(UNITS + UNIT_POS) as usize] = total;
    sync_cube();
    if part == 0 {
        let log_sum_exp = merged(scores, units_per_row);
        lse_tile[m as usize] = log_sum_exp;
        if is_query(queries, m, sizes) {
            lse[query_index(queries, m, 1u32, sizes) as usize] = log_sum_exp;
        }
    }
    sync_cube();
}

/// The log-sum-exp over this unit and the next `count − 1`, from their maxima and, `UNITS` later, their sums.
#[cube]
fn merged(parts: &SharedMemory<f32>, #[comptime] count: u32) -> f32 {
    let mut largest = NOTHING.runtime();
    let mut sum = 0.0f32;
    for i in 0..count {
        largest = max(largest, parts[(UNIT_POS + i) as usize]);
    }
    for i in 0..count {
        sum += parts[(UNITS + UNIT_POS + i) as usize] * exp(parts[(UNIT_POS + i) as usize] - largest);
    }
    largest + sum.ln()
}
