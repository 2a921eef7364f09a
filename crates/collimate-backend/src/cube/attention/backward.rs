//! The way back through attention: weights are computed again from the log-sum-exp of each row's scores, once for the
//! gradients of queries and once for those of keys and values, so that no two cubes add to the same number.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use collimate_kernels::AttentionShape;
use cubecl::prelude::*;

use super::super::buffers::{array, empty, scalars};
use super::super::cubes::{UNITS as UNITS_OF_ROWS, over, over_numbers};
use super::super::math::exp;
use super::forward::{block_queries, block_sequence, first_seen, keys_at, next_place};
use super::matrix::{matrix_keys_kernel, matrix_queries_kernel};
use super::plan::{Blocks, Products, Sizes};
use super::tile::{
    Keys, Queries, Rules, UNITS, is_query, mix_keys, mix_queries, products, query_place, score, sees, slope,
};

/// What going back reads, shapes as in [`AttentionSaved`](crate::AttentionSaved).
pub(in super::super) struct Saved<R: CubeRuntime> {
    pub(in super::super) q: CubeTensor<R>,
    pub(in super::super) k: CubeTensor<R>,
    pub(in super::super) v: CubeTensor<R>,
    pub(in super::super) out: CubeTensor<R>,
    pub(in super::super) lse: CubeTensor<R>,
}

impl<R: CubeRuntime> Blocks<R> {
    /// See [`AttentionPlan::attend_backward`](crate::AttentionPlan::attend_backward).
    pub(in super::super) fn backward(
        &self,
        shape: &AttentionShape,
        products: Products,
        saved: Saved<R>,
        d_out: CubeTensor<R>,
    ) -> [CubeTensor<R>; 3] {
        let mut sizes = Sizes::new(shape, self.side);
        sizes.matrix = products == Products::OfSquares { units: true };
        let launch_queries = match products {
            Products::OfNumbers => queries_kernel::launch::<R>,
            Products::OfSquares { .. } => matrix_queries_kernel::launch::<R>,
        };
        let launch_keys = match products {
            Products::OfNumbers => keys_kernel::launch::<R>,
            Products::OfSquares { .. } => matrix_keys_kernel::launch::<R>,
        };
        let Saved { q, k, v, out, lse } = saved;
        let (client, dtype) = (q.client.clone(), q.dtype);
        let count = lse.meta.num_elements();
        let dots = scalars(&q, lse.meta.shape().clone());
        dots_kernel::launch::<R>(
            &client,
            over_numbers(count),
            CubeDim::new_1d(UNITS_OF_ROWS),
            array(out),
            array(d_out.clone()),
            array(dots.clone()),
            count as u32,
            sizes.dim,
            dtype.into(),
        );
        let [d_q, d_k, d_v] = [&q, &k, &v].map(|x| empty(x, x.meta.shape().clone(), dtype));
        let window = shape.window.map_or(0, |window| window as u32);
        let cap = shape.softcap.unwrap_or(0.0);
        launch_queries(
            &client,
            over(self.num_queries * sizes.kv_heads() * sizes.parts()),
            CubeDim::new_1d(UNITS),
            array(q.clone()),
            array(k.clone()),
            array(v.clone()),
            array(d_out.clone()),
            array(lse.clone()),
            array(dots.clone()),
            array(self.queries.clone()),
            array(d_q.clone()),
            self.num_queries,
            shape.scale,
            cap,
            window,
            sizes,
            dtype.into(),
        );
        launch_keys(
            &client,
            over(self.num_keys * sizes.kv_heads()),
            CubeDim::new_1d(UNITS),
            array(q),
            array(k),
            array(v),
            array(d_out),
            array(lse),
            array(dots),
            array(self.keys.clone()),
            array(self.seen_by.clone()),
            array(d_k.clone()),
            array(d_v.clone()),
            self.num_keys,
            shape.scale,
            cap,
            window,
            sizes,
            dtype.into(),
        );
        [d_q, d_k, d_v]
    }
}

/// Of each row and head Σ out · d_out, which is the mean of its weights' gradients: [N, H].
#[cube(launch)]
fn dots_kernel<F: Float>(
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
            let place = (i * dim + d) as usize;
            sum += f32::cast_from(out[place]) * f32::cast_from(d_out[place]);
        }
        dots[i as usize] = sum;
        i += CUBE_COUNT as u32 * UNITS_OF_ROWS;
    }
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
fn queries_kernel<F: Float>(
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
    let of_unit = comptime!(sizes.side / 16);
    let pitch = comptime!(sizes.side + 1);
    let columns = comptime!(sizes.padded_dim() / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    let mut stage = SharedMemory::<f32>::new(comptime!(sizes.stage() as usize));
    let mut pushed = SharedMemory::<f32>::new(comptime!((sizes.side * (sizes.side + 1)) as usize));
    let mut scores = Array::<f32>::new(comptime!((of_unit * of_unit) as usize));
    let mut d_weights = Array::<f32>::new(comptime!((of_unit * of_unit) as usize));
    let mut mixed = Array::<f32>::new(comptime!((of_unit * columns) as usize));
    let rules = Rules { scale, cap, window };
    let tiles = comptime!(sizes.kv_heads() * sizes.parts());
    let mut piece = CUBE_POS as u32;
    while piece < num_blocks * tiles {
        let block = (piece / tiles * 5) as usize;
        let tile = piece % tiles;
        let queries = block_queries(blocks, block, tile, sizes);
        let sequence = block_sequence(blocks, block, &queries);
        #[unroll]
        for i in 0..comptime!(of_unit * columns) {
            mixed[i as usize] = 0.0;
        }
        let mut place = first_seen(&queries, &rules, sizes);
        while place < sequence.end {
            let keys = keys_at(place, &sequence, tile / comptime!(sizes.parts()));
            products::<F>(q, k, &queries, &keys, &mut stage, &mut scores, sizes);
            products::<F>(d_out, v, &queries, &keys, &mut stage, &mut d_weights, sizes);
            #[unroll]
            for a in 0..of_unit {
                #[unroll]
                for b in 0..of_unit {
                    let i = comptime!((a * of_unit + b) as usize);
                    let (m, n) = (y + 16 * a, x + 16 * b);
                    let (_, push) =
                        weight_and_push(scores[i], d_weights[i], lse, dots, &queries, &keys, &rules, m, n, sizes);
                    pushed[(m * pitch + n) as usize] = push;
                }
            }
            sync_cube();
            mix_keys::<F>(&pushed, k, &keys, &mut stage, &mut mixed, sizes);
            place = next_place(place, &sequence, sizes);
        }
        #[unroll]
        for a in 0..of_unit {
            let m = y + 16 * a;
            if is_query(&queries, m, sizes) {
                let start = query_place(&queries, m, sizes.dim, sizes);
                #[unroll]
                for c in 0..columns {
                    let d = x + 16 * c;
                    if d < sizes.dim {
                        d_q[(start + d) as usize] = F::cast_from(mixed[(a * columns + c) as usize] * scale);
                    }
                }
            }
        }
        piece += CUBE_COUNT as u32;
    }
}

/// The weight of a query and a key, and the gradient of their score before it is squashed.
#[cube]
#[expect(clippy::too_many_arguments)]
pub(super) fn weight_and_push(
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
    let row = select(seen, query_place(queries, m, 1u32, sizes), 0) as usize;
    let score = score(product, rules, sizes);
    let weight = select(seen, exp(score - lse[row]), 0.0);
    (weight, weight * (d_weight - dots[row]) * slope(score, rules, sizes))
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
fn keys_kernel<F: Float>(
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
    let of_unit = comptime!(sizes.side / 16);
    let pitch = comptime!(sizes.side + 1);
    let columns = comptime!(sizes.padded_dim() / 16);
    let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
    let mut stage = SharedMemory::<f32>::new(comptime!(sizes.stage() as usize));
    let mut tile = SharedMemory::<f32>::new(comptime!((sizes.side * (sizes.side + 1)) as usize));
    let mut scores = Array::<f32>::new(comptime!((of_unit * of_unit) as usize));
    let mut d_weights = Array::<f32>::new(comptime!((of_unit * of_unit) as usize));
    let mut of_keys = Array::<f32>::new(comptime!((of_unit * columns) as usize));
    let mut of_values = Array::<f32>::new(comptime!((of_unit * columns) as usize));
    let rules = Rules { scale, cap, window };
    let kv_heads = comptime!(sizes.kv_heads());
    let mut piece = CUBE_POS as u32;
    while piece < num_blocks * kv_heads {
        let block = (piece / kv_heads * 4) as usize;
        let head = piece % kv_heads;
        let (row, rows) = (blocks[block], blocks[block + 1]);
        #[unroll]
        for i in 0..comptime!(of_unit * columns) {
            of_keys[i as usize] = 0.0;
            of_values[i as usize] = 0.0;
        }
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
                    products::<F>(q, k, &queries, &keys, &mut stage, &mut scores, sizes);
                    products::<F>(d_out, v, &queries, &keys, &mut stage, &mut d_weights, sizes);
                    #[unroll]
                    for a in 0..of_unit {
                        #[unroll]
                        for b in 0..of_unit {
                            let i = comptime!((a * of_unit + b) as usize);
                            let (m, n) = (y + 16 * a, x + 16 * b);
                            let (weight, push) = weight_and_push(
                                scores[i],
                                d_weights[i],
                                lse,
                                dots,
                                &queries,
                                &keys,
                                &rules,
                                m,
                                n,
                                sizes,
                            );
                            tile[(m * pitch + n) as usize] = weight;
                            scores[i] = push;
                        }
                    }
                    sync_cube();
                    mix_queries::<F>(&tile, d_out, &queries, &mut stage, &mut of_values, sizes);
                    #[unroll]
                    for a in 0..of_unit {
                        #[unroll]
                        for b in 0..of_unit {
                            let i = comptime!((a * of_unit + b) as usize);
                            tile[((y + 16 * a) * pitch + x + 16 * b) as usize] = scores[i];
                        }
                    }
                    sync_cube();
                    mix_queries::<F>(&tile, q, &queries, &mut stage, &mut of_keys, sizes);
                    skipped += sizes.heads_of_tile;
                }
                done += comptime!(sizes.queries());
            }
            entry += 1;
        }
        #[unroll]
        for b in 0..of_unit {
            let n = y + 16 * b;
            if n < rows {
                let start = ((row + n) * kv_heads + head) * sizes.dim;
                #[unroll]
                for c in 0..columns {
                    let d = x + 16 * c;
                    if d < sizes.dim {
                        let i = comptime!((b * columns + c) as usize);
                        d_k[(start + d) as usize] = F::cast_from(of_keys[i] * scale);
                        d_v[(start + d) as usize] = F::cast_from(of_values[i]);
                    }
                }
            }
        }
        piece += CUBE_COUNT as u32;
    }
}
