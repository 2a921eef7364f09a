//! Attention forward on units that multiply matrices: the log-sum-exp of each row, and then what its weights mix.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::super::super::math::exp;
use super::super::forward::{NOTHING, Sequence, block_queries, block_sequence, first_seen, keys_at, next_place};
use super::super::plan::Sizes;
use super::super::tile::{Queries, Rules, UNITS, is_query, query_place, score, sees};
use super::tile::{mix, products, stage_keys, stage_queries, write_queries, zeros};

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
    let mut of_queries = SharedMemory::<F>::new(comptime!(sizes.tile_numbers()));
    let mut of_keys = SharedMemory::<F>::new(comptime!(sizes.tile_numbers()));
    let mut scores = SharedMemory::<f32>::new(comptime!(sizes.score_numbers()));
    let mut weights = SharedMemory::<F>::new(comptime!(sizes.weight_numbers()));
    let mut sums = SharedMemory::<f32>::new(sizes.side as usize);
    let rules = Rules { scale, cap, window };
    let tiles = comptime!(sizes.kv_heads() * sizes.parts());
    let mut piece = CUBE_POS as u32;
    while piece < num_blocks * tiles {
        let block = (piece / tiles * 5) as usize;
        let tile = piece % tiles;
        let head = tile / comptime!(sizes.parts());
        let queries = block_queries(blocks, block, tile, sizes);
        let sequence = block_sequence(blocks, block, &queries);
        stage_queries::<F>(q, &queries, &mut of_queries, sizes);
        log_sum_exps::<F>(
            k,
            lse,
            &queries,
            &sequence,
            head,
            &rules,
            &of_queries,
            &mut of_keys,
            &mut scores,
            &mut sums,
            sizes,
        );
        let mut mixed = zeros(sizes);
        let mut place = first_seen(&queries, &rules, sizes);
        while place < sequence.end {
            let keys = keys_at(place, &sequence, head);
            stage_keys::<F>(k, &keys, &mut of_keys, sizes);
            sync_cube();
            products::<F>(&of_queries, &of_keys, &mut scores, sizes);
            sync_cube();
            stage_keys::<F>(v, &keys, &mut of_keys, sizes);
            let mut i = UNIT_POS;
            while i < comptime!(sizes.side * sizes.side) {
                let (m, n) = (i / sizes.side, i % sizes.side);
                let product = scores[(m * comptime!(sizes.score_pitch()) + n) as usize];
                let weight = exp(score(product, &rules, sizes) - sums[m as usize]);
                let weight = select(sees(&queries, &keys, &rules, m, n, sizes), weight, 0.0);
                weights[(m * comptime!(sizes.weight_pitch()) + n) as usize] = F::cast_from(weight);
                i += UNITS;
            }
            sync_cube();
            mix::<F>(&weights, &of_keys, &mut mixed, false, sizes);
            sync_cube();
            place = next_place(place, &sequence, sizes);
        }
        write_queries::<F>(&mixed, out, &queries, 1.0, &mut scores, sizes);
        piece += CUBE_COUNT as u32;
    }
}

/// The log-sum-exp of each row's scores, to `sums` and `lse`. Units that stand beside each other share a row.
#[cube]
#[expect(clippy::too_many_arguments)]
fn log_sum_exps<F: Float>(
    k: &Array<F>,
    lse: &mut Array<f32>,
    queries: &Queries,
    sequence: &Sequence,
    head: u32,
    rules: &Rules,
    of_queries: &SharedMemory<F>,
    of_keys: &mut SharedMemory<F>,
    scores: &mut SharedMemory<f32>,
    sums: &mut SharedMemory<f32>,
    #[comptime] sizes: Sizes,
) {
    let sharing = comptime!(UNITS / sizes.side);
    let (m, part) = (UNIT_POS / sharing, UNIT_POS % sharing);
    let mut highest = NOTHING.runtime();
    let mut total = 0.0f32;
    let mut place = first_seen(queries, rules, sizes);
    while place < sequence.end {
        let keys = keys_at(place, sequence, head);
        stage_keys::<F>(k, &keys, of_keys, sizes);
        sync_cube();
        products::<F>(of_queries, of_keys, scores, sizes);
        sync_cube();
        let mut n = part;
        while n < sizes.side {
            if sees(queries, &keys, rules, m, n, sizes) {
                let x = score(scores[(m * comptime!(sizes.score_pitch()) + n) as usize], rules, sizes);
                let e = exp(-(x - highest).abs());
                total = select(x > highest, total * e + 1.0, total + e);
                highest = max(highest, x);
            }
            n += sharing;
        }
        sync_cube();
        place = next_place(place, sequence, sizes);
    }
    scores[UNIT_POS as usize] = highest;
    scores[(UNITS + UNIT_POS) as usize] = total;
    sync_cube();
    if part == 0 {
        let mut largest = NOTHING.runtime();
        let mut sum = 0.0f32;
        for i in 0..sharing {
            largest = max(largest, scores[(UNIT_POS + i) as usize]);
        }
        for i in 0..sharing {
            sum += scores[(UNITS + UNIT_POS + i) as usize] * exp(scores[(UNIT_POS + i) as usize] - largest);
        }
        let log_sum_exp = largest + sum.ln();
        sums[m as usize] = log_sum_exp;
        if is_query(queries, m, sizes) {
            lse[query_place(queries, m, 1u32, sizes) as usize] = log_sum_exp;
        }
    }
    sync_cube();
}
