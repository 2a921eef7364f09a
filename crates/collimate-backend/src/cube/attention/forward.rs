//! Attention forward: one pass over the keys of each tile of queries with a running maximum.

use burn_cubecl::cubecl;
use cubecl::prelude::*;

use super::super::math::exp;
use super::sizes::Sizes;
use super::tables::{QueryBlock, query_block};
use super::tile::{Keys, Queries, Rules, is_query, mix_keys, products, queries_of, query_index, score, sees};

/// The running maximum before the first key.
pub(super) const NOTHING: f32 = -3.0e38;

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
pub(super) fn forward_kernel<F: Float>(
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
    let mut stage = SharedMemory::<f32>::new(comptime!(sizes.stage() as usize));
    let mut weights = SharedMemory::<f32>::new(comptime!((sizes.side * (sizes.side + 1)) as usize));
    let rules = Rules { scale, cap, window };
    let tiles = comptime!(sizes.tiles_per_block());
    let mut task = CUBE_POS as u32;
    while task < num_blocks * tiles {
        let block = query_block(blocks, task / tiles);
        let tile = task % tiles;
        let queries = queries_of(&block, tile, sizes);
        let sequence = sequence_of(&block, &queries);
        attend::<F>(
            q,
            k,
            v,
            out,
            lse,
            &queries,
            &sequence,
            tile / comptime!(sizes.parts()),
            &rules,
            &mut stage,
            &mut weights,
            sizes,
        );
        task += CUBE_COUNT as u32;
    }
}

/// What a tile of queries attends to: the context's rows, then its segment's own.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Sequence {
    /// The context's first row and length.
    context: u32,
    context_len: u32,
    /// The segment's first row.
    own: u32,
    /// The position after the last query.
    pub(super) end: u32,
}

#[cube]
pub(super) fn sequence_of(block: &QueryBlock, queries: &Queries) -> Sequence {
    let end = queries.position + queries.rows;
    Sequence { context: block.context, context_len: block.context_len, own: block.segment, end }
}

/// The first position that a tile of queries attends to.
#[cube]
pub(super) fn first_seen(queries: &Queries, rules: &Rules, #[comptime] sizes: Sizes) -> u32 {
    if sizes.windowed {
        select(queries.position >= rules.window, queries.position + 1 - rules.window, 0)
    } else {
        0u32.runtime()
    }
}

/// The tile of keys that begins at a position, either in the context or in the segment's own rows.
#[cube]
pub(super) fn keys_at(position: u32, sequence: &Sequence, head: u32) -> Keys {
    let in_context = position < sequence.context_len;
    let own_low = sequence.own + position - sequence.context_len;
    let low = select(in_context, sequence.context + position, own_low);
    let own_high = sequence.own + sequence.end - sequence.context_len;
    let high = select(in_context, sequence.context + sequence.context_len, own_high);
    Keys { row: low, low, high, position, head }
}

/// The position after the tile of keys that begins at `position`.
#[cube]
pub(super) fn next_position(position: u32, sequence: &Sequence, #[comptime] sizes: Sizes) -> u32 {
    let next = position + sizes.side;
    // A tile does not cross the end of the context.
    select(position < sequence.context_len, min(next, sequence.context_len), next)
}

/// Attention of one tile of queries.
#[cube]
#[expect(clippy::too_many_arguments)] // the kernel's arrays
fn attend<F: Float>(
    q: &Array<F>,
    k: &Array<F>,
    v: &Array<F>,
    out: &mut Array<F>,
    lse: &mut Array<f32>,
    queries: &Queries,
    sequence: &Sequence,
    head: u32,
    rules: &Rules,
    stage: &mut SharedMemory<f32>,
    weights: &mut SharedMemory<f32>,
    #[comptime] sizes: Sizes,
) {
    let per_unit = comptime!(sizes.side / 16);
    let columns = comptime!(sizes.padded_dim() / 16);
    let mut scores = Array::<f32>::new(comptime!((per_unit * per_unit) as usize));
    let mut mixed = Array::<f32>::new(comptime!((per_unit * columns) as usize));
    let mut highest = Array::<f32>::new(per_unit as usize);
    // This unit's columns only; summed over the row's units at the end.
    let mut totals = Array::<f32>::new(per_unit as usize);
    #[unroll]
    for a in 0..per_unit {
        highest[a as usize] = NOTHING;
        totals[a as usize] = 0.0;
    }
    #[unroll]
    for i in 0..comptime!(per_unit * columns) {
        mixed[i as usize] = 0.0;
    }
    let mut position = first_seen(queries, rules, sizes);
    while position < sequence.end {
        let keys = keys_at(position, sequence, head);
        products::<F>(q, k, queries, &keys, stage, &mut scores, sizes);
        mask_scores(&mut scores, queries, &keys, rules, stage, sizes);
        sync_cube();
        weigh(&scores, &mut highest, &mut totals, &mut mixed, stage, weights, sizes);
        sync_cube();
        mix_keys::<F>(weights, v, &keys, stage, &mut mixed, sizes);
        position = next_position(position, sequence, sizes);
    }
    write_rows::<F>(&highest, &totals, &mixed, queries, stage, out, lse, sizes);
    // Wait before the shared memory is reused.
    sync_cube();
}

/// Turns a unit's products into scores, and stages the largest of each row.
#[cube]
fn mask_scores(
    scores: &mut Array<f32>,
    queries: &Queries,
    keys: &Keys,
    rules: &Rules,
    stage: &mut SharedMemory<f32>,
    #[comptime] sizes: Sizes,
) {
    let per_unit = comptime!(sizes.side / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    #[unroll]
    for a in 0..per_unit {
        let m = y + 16 * a;
        let mut largest = NOTHING.runtime();
        #[unroll]
        for b in 0..per_unit {
            let i = comptime!((a * per_unit + b) as usize);
            let seen = sees(queries, keys, rules, m, x + 16 * b, sizes);
            let score = select(seen, score(scores[i], rules, sizes), NOTHING);
            scores[i] = score;
            largest = max(largest, score);
        }
        stage[(m * 16 + x) as usize] = largest;
    }
}

/// Turns scores into weights relative to the new maximum of their row, and rescales the row's sums to it.
#[cube]
fn weigh(
    scores: &Array<f32>,
    highest: &mut Array<f32>,
    totals: &mut Array<f32>,
    mixed: &mut Array<f32>,
    stage: &SharedMemory<f32>,
    weights: &mut SharedMemory<f32>,
    #[comptime] sizes: Sizes,
) {
    let per_unit = comptime!(sizes.side / 16);
    let pitch = comptime!(sizes.side + 1);
    let columns = comptime!(sizes.padded_dim() / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    #[unroll]
    for a in 0..per_unit {
        let m = y + 16 * a;
        let mut largest = highest[a as usize];
        #[unroll]
        for i in 0..16u32 {
            largest = max(largest, stage[(m * 16 + i) as usize]);
        }
        let shrink = exp(highest[a as usize] - largest);
        highest[a as usize] = largest;
        let mut total = totals[a as usize] * shrink;
        #[unroll]
        for b in 0..per_unit {
            let score = scores[(a * per_unit + b) as usize];
            let weight = select(score > NOTHING, exp(score - largest), 0.0);
            weights[(m * pitch + x + 16 * b) as usize] = weight;
            total += weight;
        }
        totals[a as usize] = total;
        #[unroll]
        for c in 0..columns {
            mixed[(a * columns + c) as usize] *= shrink;
        }
    }
}

/// Writes the outputs and log-sum-exps of a tile of queries.
#[cube]
#[expect(clippy::too_many_arguments)] // a unit's registers
fn write_rows<F: Float>(
    highest: &Array<f32>,
    totals: &Array<f32>,
    mixed: &Array<f32>,
    queries: &Queries,
    stage: &mut SharedMemory<f32>,
    out: &mut Array<F>,
    lse: &mut Array<f32>,
    #[comptime] sizes: Sizes,
) {
    let per_unit = comptime!(sizes.side / 16);
    let columns = comptime!(sizes.padded_dim() / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    #[unroll]
    for a in 0..per_unit {
        stage[((y + 16 * a) * 16 + x) as usize] = totals[a as usize];
    }
    sync_cube();
    #[unroll]
    for a in 0..per_unit {
        let m = y + 16 * a;
        if is_query(queries, m, sizes) {
            let mut total = 0.0f32;
            #[unroll]
            for i in 0..16u32 {
                total += stage[(m * 16 + i) as usize];
            }
            let start = query_index(queries, m, sizes.dim, sizes);
            #[unroll]
            for c in 0..columns {
                let d = x + 16 * c;
                if d < sizes.dim {
                    out[(start + d) as usize] = F::cast_from(mixed[(a * columns + c) as usize] / total);
                }
            }
            if x == 0 {
                lse[query_index(queries, m, 1u32, sizes) as usize] = highest[a as usize] + total.ln();
            }
        }
    }
}
