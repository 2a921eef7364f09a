//! The way back on units that multiply matrices; see the kernels beside it for what is computed.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::super::backward::weight_and_push;
use super::super::forward::{block_queries, block_sequence, first_seen, keys_at, next_place};
use super::super::plan::Sizes;
use super::super::tile::{Keys, Queries, Rules, UNITS};
use super::tile::{mix, products, stage_keys, stage_queries, write_keys, write_queries, zeros};

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
    let mut of_queries = SharedMemory::<F>::new(comptime!(sizes.tile_numbers()));
    let mut of_outputs = SharedMemory::<F>::new(comptime!(sizes.tile_numbers()));
    let mut of_keys = SharedMemory::<F>::new(comptime!(sizes.tile_numbers()));
    let mut of_values = SharedMemory::<F>::new(comptime!(sizes.tile_numbers()));
    let mut scores = SharedMemory::<f32>::new(comptime!(sizes.score_numbers()));
    let mut d_weights = SharedMemory::<f32>::new(comptime!(sizes.score_numbers()));
    let mut pushed = SharedMemory::<F>::new(comptime!(sizes.weight_numbers()));
    let rules = Rules { scale, cap, window };
    let tiles = comptime!(sizes.kv_heads() * sizes.parts());
    let mut piece = CUBE_POS as u32;
    while piece < num_blocks * tiles {
        let block = (piece / tiles * 5) as usize;
        let tile = piece % tiles;
        let queries = block_queries(blocks, block, tile, sizes);
        let sequence = block_sequence(blocks, block, &queries);
        stage_queries::<F>(q, &queries, &mut of_queries, sizes);
        stage_queries::<F>(d_out, &queries, &mut of_outputs, sizes);
        let mut mixed = zeros(sizes);
        let mut place = first_seen(&queries, &rules, sizes);
        while place < sequence.end {
            let keys = keys_at(place, &sequence, tile / comptime!(sizes.parts()));
            stage_keys::<F>(k, &keys, &mut of_keys, sizes);
            stage_keys::<F>(v, &keys, &mut of_values, sizes);
            sync_cube();
            products::<F>(&of_queries, &of_keys, &mut scores, sizes);
            products::<F>(&of_outputs, &of_values, &mut d_weights, sizes);
            sync_cube();
            let mut i = UNIT_POS;
            while i < comptime!(sizes.side * sizes.side) {
                let (m, n) = (i / sizes.side, i % sizes.side);
                let at = (m * comptime!(sizes.score_pitch()) + n) as usize;
                let (_, push) =
                    weight_and_push(scores[at], d_weights[at], lse, dots, &queries, &keys, &rules, m, n, sizes);
                pushed[(m * comptime!(sizes.weight_pitch()) + n) as usize] = F::cast_from(push);
                i += UNITS;
            }
            sync_cube();
            mix::<F>(&pushed, &of_keys, &mut mixed, false, sizes);
            sync_cube();
            place = next_place(place, &sequence, sizes);
        }
        write_queries::<F>(&mixed, d_q, &queries, scale, &mut scores, sizes);
        piece += CUBE_COUNT as u32;
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
    seen_by: &Array<u32>,
    d_k: &mut Array<F>,
    d_v: &mut Array<F>,
    num_blocks: u32,
    scale: f32,
    cap: f32,
    window: u32,
    #[comptime] sizes: Sizes,
    #[define(F)] _dtype: StorageType,
) {
    let mut of_queries = SharedMemory::<F>::new(comptime!(sizes.tile_numbers()));
    let mut of_outputs = SharedMemory::<F>::new(comptime!(sizes.tile_numbers()));
    let mut of_keys = SharedMemory::<F>::new(comptime!(sizes.tile_numbers()));
    let mut of_values = SharedMemory::<F>::new(comptime!(sizes.tile_numbers()));
    let mut scores = SharedMemory::<f32>::new(comptime!(sizes.score_numbers()));
    let mut d_weights = SharedMemory::<f32>::new(comptime!(sizes.score_numbers()));
    let mut weights = SharedMemory::<F>::new(comptime!(sizes.weight_numbers()));
    let rules = Rules { scale, cap, window };
    let kv_heads = comptime!(sizes.kv_heads());
    let mut piece = CUBE_POS as u32;
    while piece < num_blocks * kv_heads {
        let block = (piece / kv_heads * 4) as usize;
        let head = piece % kv_heads;
        let (row, rows) = (blocks[block], blocks[block + 1]);
        // Those that some row sees in some entry; which, the entry says.
        let all = Keys { row, low: row, high: row + rows, place: 0u32.runtime(), head };
        stage_keys::<F>(k, &all, &mut of_keys, sizes);
        stage_keys::<F>(v, &all, &mut of_values, sizes);
        let mut for_keys = zeros(sizes);
        let mut for_values = zeros(sizes);
        let mut entry = blocks[block + 2];
        while entry < blocks[block + 3] {
            let at = (entry * 6) as usize;
            let keys = Keys { row, low: seen_by[at], high: seen_by[at + 1], place: seen_by[at + 2], head };
            let (first, count) = (seen_by[at + 3], seen_by[at + 4]);
            let mut done = 0u32;
            while done < count {
                let mut skipped = 0u32;
                while skipped < sizes.group {
                    let queries = Queries {
                        row: first + done,
                        rows: min(comptime!(sizes.queries()), count - done),
                        place: seen_by[at + 5] + done,
                        head: head * sizes.group + skipped,
                        heads: min(sizes.heads_of_tile, sizes.group - skipped),
                    };
                    stage_queries::<F>(q, &queries, &mut of_queries, sizes);
                    stage_queries::<F>(d_out, &queries, &mut of_outputs, sizes);
                    sync_cube();
                    products::<F>(&of_queries, &of_keys, &mut scores, sizes);
                    products::<F>(&of_outputs, &of_values, &mut d_weights, sizes);
                    sync_cube();
                    let mut i = UNIT_POS;
                    while i < comptime!(sizes.side * sizes.side) {
                        let (m, n) = (i / sizes.side, i % sizes.side);
                        let at = (m * comptime!(sizes.score_pitch()) + n) as usize;
                        let (weight, push) =
                            weight_and_push(scores[at], d_weights[at], lse, dots, &queries, &keys, &rules, m, n, sizes);
                        weights[(m * comptime!(sizes.weight_pitch()) + n) as usize] = F::cast_from(weight);
                        // The unit alone reads it again.
                        scores[at] = push;
                        i += UNITS;
                    }
                    sync_cube();
                    mix::<F>(&weights, &of_outputs, &mut for_values, true, sizes);
                    sync_cube();
                    let mut i = UNIT_POS;
                    while i < comptime!(sizes.side * sizes.side) {
                        let (m, n) = (i / sizes.side, i % sizes.side);
                        let push = scores[(m * comptime!(sizes.score_pitch()) + n) as usize];
                        weights[(m * comptime!(sizes.weight_pitch()) + n) as usize] = F::cast_from(push);
                        i += UNITS;
                    }
                    sync_cube();
                    mix::<F>(&weights, &of_queries, &mut for_keys, true, sizes);
                    sync_cube();
                    skipped += sizes.heads_of_tile;
                }
                done += comptime!(sizes.queries());
            }
            entry += 1;
        }
        write_keys::<F>(&for_keys, d_k, &all, rows, scale, &mut scores, sizes);
        write_keys::<F>(&for_values, d_v, &all, rows, 1.0, &mut scores, sizes);
        piece += CUBE_COUNT as u32;
    }
}
