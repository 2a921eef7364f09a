//! Attention backward on matrix units; see the scalar kernels for the formulas.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::super::backward::weight_and_gradient;
use super::super::forward::{first_seen, keys_at, next_position, sequence_of};
use super::super::sizes::Sizes;
use super::super::tables::{key_block, query_block, viewer};
use super::super::tile::{Keys, Queries, Rules, UNITS, queries_of, viewing_queries};
use super::staging::{stage_keys, stage_queries};
use super::tile::{mix, products, write_keys, write_queries, zeros};

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
pub(in super::super) fn matrix_queries_kernel<F: Float>(
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
    let mut query_tile = SharedMemory::<F>::new(comptime!(sizes.tile_len()));
    let mut d_out_tile = SharedMemory::<F>::new(comptime!(sizes.tile_len()));
    let mut key_tile = SharedMemory::<F>::new(comptime!(sizes.tile_len()));
    let mut value_tile = SharedMemory::<F>::new(comptime!(sizes.tile_len()));
    let mut scores = SharedMemory::<f32>::new(comptime!(sizes.score_len()));
    let mut d_weights = SharedMemory::<f32>::new(comptime!(sizes.score_len()));
    let mut d_scores = SharedMemory::<F>::new(comptime!(sizes.weight_len()));
    let rules = Rules { scale, cap, window };
    let tiles = comptime!(sizes.tiles_per_block());
    let mut task = CUBE_POS as u32;
    while task < num_blocks * tiles {
        let block = query_block(blocks, task / tiles);
        let tile = task % tiles;
        let queries = queries_of(&block, tile, sizes);
        let sequence = sequence_of(&block, &queries);
        stage_queries::<F>(q, &queries, &mut query_tile, sizes);
        stage_queries::<F>(d_out, &queries, &mut d_out_tile, sizes);
        let mut mixed = zeros(sizes);
        let mut position = first_seen(&queries, &rules, sizes);
        while position < sequence.end {
            let keys = keys_at(position, &sequence, tile / comptime!(sizes.parts()));
            stage_keys::<F>(k, &keys, &mut key_tile, sizes);
            stage_keys::<F>(v, &keys, &mut value_tile, sizes);
            sync_cube();
            products::<F>(&query_tile, &key_tile, &mut scores, sizes);
            products::<F>(&d_out_tile, &value_tile, &mut d_weights, sizes);
            sync_cube();
            scores_backward::<F>(
                &mut scores,
                &d_weights,
                lse,
                dots,
                &queries,
                &keys,
                &rules,
                &mut d_scores,
                false,
                sizes,
            );
            sync_cube();
            mix::<F>(&d_scores, &key_tile, &mut mixed, false, sizes);
            sync_cube();
            position = next_position(position, &sequence, sizes);
        }
        write_queries::<F>(&mixed, d_q, &queries, scale, &mut scores, sizes);
        task += CUBE_COUNT as u32;
    }
}

/// Gradients of a tile's scores, rounded to `rounded`; or, with `keep_weights`, the weights to `rounded` and the gradients
/// to `scores`.
///
/// Each unit owns its elements, here and in [`round_tile`], so nothing needs to be synchronized between the two.
#[cube]
#[expect(clippy::too_many_arguments)] // the kernel's arrays
fn scores_backward<F: Float>(
    scores: &mut SharedMemory<f32>,
    d_weights: &SharedMemory<f32>,
    lse: &Array<f32>,
    dots: &Array<f32>,
    queries: &Queries,
    keys: &Keys,
    rules: &Rules,
    rounded: &mut SharedMemory<F>,
    #[comptime] keep_weights: bool,
    #[comptime] sizes: Sizes,
) {
    let mut i = UNIT_POS;
    while i < comptime!(sizes.side * sizes.side) {
        let (m, n) = (i / sizes.side, i % sizes.side);
        let index = (m * comptime!(sizes.score_pitch()) + n) as usize;
        let rounded_index = (m * comptime!(sizes.weight_pitch()) + n) as usize;
        let (weight, d_score) =
            weight_and_gradient(scores[index], d_weights[index], lse, dots, queries, keys, rules, m, n, sizes);
        if keep_weights {
            rounded[rounded_index] = F::cast_from(weight);
            scores[index] = d_score;
        } else {
            rounded[rounded_index] = F::cast_from(d_score);
        }
        i += UNITS;
    }
}

/// Rounds a tile [side, score_pitch] to the dtype of the values, [side, weight_pitch].
#[cube]
fn round_tile<F: Float>(tile: &SharedMemory<f32>, rounded: &mut SharedMemory<F>, #[comptime] sizes: Sizes) {
    let mut i = UNIT_POS;
    while i < comptime!(sizes.side * sizes.side) {
        let (m, n) = (i / sizes.side, i % sizes.side);
        let value = tile[(m * comptime!(sizes.score_pitch()) + n) as usize];
        rounded[(m * comptime!(sizes.weight_pitch()) + n) as usize] = F::cast_from(value);
        i += UNITS;
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
pub(in super::super) fn matrix_keys_kernel<F: Float>(
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
    let mut query_tile = SharedMemory::<F>::new(comptime!(sizes.tile_len()));
    let mut d_out_tile = SharedMemory::<F>::new(comptime!(sizes.tile_len()));
    let mut key_tile = SharedMemory::<F>::new(comptime!(sizes.tile_len()));
    let mut value_tile = SharedMemory::<F>::new(comptime!(sizes.tile_len()));
    let mut scores = SharedMemory::<f32>::new(comptime!(sizes.score_len()));
    let mut d_weights = SharedMemory::<f32>::new(comptime!(sizes.score_len()));
    let mut weights = SharedMemory::<F>::new(comptime!(sizes.weight_len()));
    let rules = Rules { scale, cap, window };
    let kv_heads = comptime!(sizes.kv_heads());
    let mut task = CUBE_POS as u32;
    while task < num_blocks * kv_heads {
        let block = key_block(blocks, task / kv_heads);
        let head = task % kv_heads;
        let row = block.row;
        // All rows of the tile; each viewer attends to some of them.
        let tile = Keys { row, low: row, high: row + block.rows, position: 0u32.runtime(), head };
        stage_keys::<F>(k, &tile, &mut key_tile, sizes);
        stage_keys::<F>(v, &tile, &mut value_tile, sizes);
        let mut d_keys = zeros(sizes);
        let mut d_values = zeros(sizes);
        let mut entry = block.viewers_start;
        while entry < block.viewers_end {
            let viewer = viewer(viewers, entry);
            let keys = Keys { row, low: viewer.low, high: viewer.high, position: viewer.key_position, head };
            let mut skipped_rows = 0u32;
            while skipped_rows < viewer.rows {
                let mut skipped_heads = 0u32;
                while skipped_heads < sizes.group {
                    let queries = viewing_queries(&viewer, skipped_rows, head, skipped_heads, sizes);
                    stage_queries::<F>(q, &queries, &mut query_tile, sizes);
                    stage_queries::<F>(d_out, &queries, &mut d_out_tile, sizes);
                    sync_cube();
                    products::<F>(&query_tile, &key_tile, &mut scores, sizes);
                    products::<F>(&d_out_tile, &value_tile, &mut d_weights, sizes);
                    sync_cube();
                    scores_backward::<F>(
                        &mut scores,
                        &d_weights,
                        lse,
                        dots,
                        &queries,
                        &keys,
                        &rules,
                        &mut weights,
                        true,
                        sizes,
                    );
                    sync_cube();
                    mix::<F>(&weights, &d_out_tile, &mut d_values, true, sizes);
                    sync_cube();
                    round_tile::<F>(&scores, &mut weights, sizes);
                    sync_cube();
                    mix::<F>(&weights, &query_tile, &mut d_keys, true, sizes);
                    sync_cube();
                    skipped_heads += sizes.heads_per_tile;
                }
                skipped_rows += comptime!(sizes.queries());
            }
            entry += 1;
        }
        write_keys::<F>(&d_keys, d_k, &tile, scale, &mut scores, sizes);
        write_keys::<F>(&d_values, d_v, &tile, 1.0, &mut scores, sizes);
        task += CUBE_COUNT as u32;
    }
}
