//! Attention forward: one pass over the keys of each tile of queries with a running maximum.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use collimate_kernels::AttentionShape;
use cubecl::prelude::*;

use super::super::buffers::{array, empty, scalars};
use super::super::cubes::over;
use super::super::math::exp;
use super::matrix::matrix_forward_kernel;
use super::plan::{Blocks, Products, Sizes};
use super::tile::{Keys, Queries, Rules, UNITS, is_query, mix_keys, products, query_place, score, sees};

/// Where no key has been seen yet.
pub(super) const NOTHING: f32 = -3.0e38;

impl<R: CubeRuntime> Blocks<R> {
    /// See [`AttentionPlan::attend`](crate::AttentionPlan::attend).
    pub(in super::super) fn forward(
        &self,
        shape: &AttentionShape,
        products: Products,
        q: CubeTensor<R>,
        k: CubeTensor<R>,
        v: CubeTensor<R>,
    ) -> (CubeTensor<R>, CubeTensor<R>) {
        let mut sizes = Sizes::new(shape, self.side);
        sizes.matrix = products == Products::OfSquares { units: true };
        let launch = match products {
            Products::OfNumbers => forward_kernel::launch::<R>,
            Products::OfSquares { .. } => matrix_forward_kernel::launch::<R>,
        };
        let out = empty(&q, q.meta.shape().clone(), q.dtype);
        let lse = scalars(&q, [q.meta.shape()[0], shape.heads]);
        let (client, dtype) = (q.client.clone(), q.dtype);
        launch(
            &client,
            over(self.num_queries * sizes.kv_heads() * sizes.parts()),
            CubeDim::new_1d(UNITS),
            array(q),
            array(k),
            array(v),
            array(self.queries.clone()),
            array(out.clone()),
            array(lse.clone()),
            self.num_queries,
            shape.scale,
            shape.softcap.unwrap_or(0.0),
            shape.window.map_or(0, |window| window as u32),
            sizes,
            dtype.into(),
        );
        (out, lse)
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
fn forward_kernel<F: Float>(
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
    let tiles = comptime!(sizes.kv_heads() * sizes.parts());
    let mut piece = CUBE_POS as u32;
    while piece < num_blocks * tiles {
        let block = (piece / tiles * 5) as usize;
        let tile = piece % tiles;
        let queries = block_queries(blocks, block, tile, sizes);
        let sequence = block_sequence(blocks, block, &queries);
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
        piece += CUBE_COUNT as u32;
    }
}

/// A tile of queries.
#[cube]
pub(super) fn block_queries(blocks: &Array<u32>, block: usize, tile: u32, #[comptime] sizes: Sizes) -> Queries {
    let (length, own, row) = (blocks[block + 1], blocks[block + 2], blocks[block + 3]);
    let parts = comptime!(sizes.parts());
    let skipped = tile % parts * sizes.heads_of_tile;
    Queries {
        row,
        rows: blocks[block + 4],
        place: length + row - own,
        head: tile / parts * sizes.group + skipped,
        heads: min(sizes.heads_of_tile, sizes.group - skipped),
    }
}

/// What a tile of queries sees: so many rows from the context's first, and then those from the segment's first.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Sequence {
    context: u32,
    length: u32,
    own: u32,
    /// The place after the last query.
    pub(super) end: u32,
}

#[cube]
pub(super) fn block_sequence(blocks: &Array<u32>, block: usize, queries: &Queries) -> Sequence {
    let end = queries.place + queries.rows;
    Sequence { context: blocks[block], length: blocks[block + 1], own: blocks[block + 2], end }
}

/// The first place of a sequence that a tile of queries sees.
#[cube]
pub(super) fn first_seen(queries: &Queries, rules: &Rules, #[comptime] sizes: Sizes) -> u32 {
    if sizes.windowed {
        select(queries.place >= rules.window, queries.place + 1 - rules.window, 0)
    } else {
        0u32.runtime()
    }
}

/// The tile of keys that begins at a place of the sequence: of the context, or of the segment's own rows.
#[cube]
pub(super) fn keys_at(place: u32, sequence: &Sequence, head: u32) -> Keys {
    let of_context = place < sequence.length;
    let of_own = sequence.own + place - sequence.length;
    let low = select(of_context, sequence.context + place, of_own);
    let of_own = sequence.own + sequence.end - sequence.length;
    let high = select(of_context, sequence.context + sequence.length, of_own);
    Keys { row: low, low, high, place, head }
}

/// The place after a tile of keys.
#[cube]
pub(super) fn next_place(place: u32, sequence: &Sequence, #[comptime] sizes: Sizes) -> u32 {
    let next = place + sizes.side;
    // A tile ends where the context does.
    select(place < sequence.length, min(next, sequence.length), next)
}

#[cube]
#[expect(clippy::too_many_arguments)]
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
    let of_unit = comptime!(sizes.side / 16);
    let pitch = comptime!(sizes.side + 1);
    let columns = comptime!(sizes.padded_dim() / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    let mut scores = Array::<f32>::new(comptime!((of_unit * of_unit) as usize));
    let mut mixed = Array::<f32>::new(comptime!((of_unit * columns) as usize));
    let mut highest = Array::<f32>::new(of_unit as usize);
    // Of this unit's columns alone; summed over the row's units at the end.
    let mut totals = Array::<f32>::new(of_unit as usize);
    #[unroll]
    for a in 0..of_unit {
        highest[a as usize] = NOTHING;
        totals[a as usize] = 0.0;
    }
    #[unroll]
    for i in 0..comptime!(of_unit * columns) {
        mixed[i as usize] = 0.0;
    }
    let mut place = first_seen(queries, rules, sizes);
    while place < sequence.end {
        let keys = keys_at(place, sequence, head);
        products::<F>(q, k, queries, &keys, stage, &mut scores, sizes);
        #[unroll]
        for a in 0..of_unit {
            let m = y + 16 * a;
            let mut largest = NOTHING.runtime();
            #[unroll]
            for b in 0..of_unit {
                let i = comptime!((a * of_unit + b) as usize);
                let seen = sees(queries, &keys, rules, m, x + 16 * b, sizes);
                let score = select(seen, score(scores[i], rules, sizes), NOTHING);
                scores[i] = score;
                largest = max(largest, score);
            }
            stage[(m * 16 + x) as usize] = largest;
        }
        sync_cube();
        #[unroll]
        for a in 0..of_unit {
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
            for b in 0..of_unit {
                let score = scores[(a * of_unit + b) as usize];
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
        sync_cube();
        mix_keys::<F>(weights, v, &keys, stage, &mut mixed, sizes);
        place = next_place(place, sequence, sizes);
    }
    #[unroll]
    for a in 0..of_unit {
        stage[((y + 16 * a) * 16 + x) as usize] = totals[a as usize];
    }
    sync_cube();
    #[unroll]
    for a in 0..of_unit {
        let m = y + 16 * a;
        if is_query(queries, m, sizes) {
            let mut total = 0.0f32;
            #[unroll]
            for i in 0..16u32 {
                total += stage[(m * 16 + i) as usize];
            }
            let start = query_place(queries, m, sizes.dim, sizes);
            #[unroll]
            for c in 0..columns {
                let d = x + 16 * c;
                if d < sizes.dim {
                    out[(start + d) as usize] = F::cast_from(mixed[(a * columns + c) as usize] / total);
                }
            }
            if x == 0 {
                lse[query_place(queries, m, 1u32, sizes) as usize] = highest[a as usize] + total.ln();
            }
        }
    }
    // Before the memory is used again.
    sync_cube();
}
