//! Tiles in shared memory and their products.

use burn_cubecl::cubecl;
use cubecl::cmma::{self, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

use super::super::sizes::Sizes;
use super::super::tile::{Keys, Queries, UNITS, is_key, is_query, key_index, query_index};
use super::sizes::PLANES;

/// Weighted sums of rows, [side, wide] in float32: squares in the planes' registers, or numbers in the units'.
#[derive(CubeType)]
pub(super) struct Mixed {
    squares: Sequence<cmma::Matrix<f32>>,
    numbers: Array<f32>,
}

#[cube]
pub(super) fn zeros(#[comptime] sizes: Sizes) -> Mixed {
    let mut squares = Sequence::<cmma::Matrix<f32>>::new();
    if sizes.matrix {
        #[unroll]
        for _ in 0..comptime!(sizes.squares_per_plane()) {
            squares.push(cmma::Matrix::<f32>::from_value(
                MatrixIdent::Accumulator,
                16usize,
                16usize,
                16usize,
                MatrixLayout::Undefined,
                0.0,
            ));
        }
    }
    let count = comptime!(if sizes.matrix { 1 } else { sizes.side / 16 * sizes.wide() / 16 });
    let mut numbers = Array::<f32>::new(count as usize);
    #[unroll]
    for i in 0..count {
        numbers[i as usize] = 0.0;
    }
    Mixed { squares, numbers }
}

/// Dot products of the rows of `left` with those of `right`, to `out` [side, score_pitch].
#[cube]
pub(super) fn products<F: Float>(
    left: &SharedMemory<F>,
    right: &SharedMemory<F>,
    out: &mut SharedMemory<f32>,
    #[comptime] sizes: Sizes,
) {
    let (pitch, score_pitch) = comptime!((sizes.pitch(), sizes.score_pitch()));
    let squares = comptime!(sizes.squares());
    if sizes.matrix {
        let mut square = UNIT_POS / 32;
        while square < comptime!(squares * squares) {
            let (row, column) = (square % squares * 16, square / squares * 16);
            let sum = cmma::Matrix::<f32>::from_value(
                MatrixIdent::Accumulator,
                16usize,
                16usize,
                16usize,
                MatrixLayout::Undefined,
                0.0,
            );
            #[unroll]
            for k in 0..comptime!(sizes.wide() / 16) {
                let a = square_of::<F>(left, row * pitch + 16 * k, pitch, MatrixIdent::A, MatrixLayout::RowMajor);
                let b = square_of::<F>(right, column * pitch + 16 * k, pitch, MatrixIdent::B, MatrixLayout::ColMajor);
                cmma::execute::<F, F, f32, f32>(&a, &b, &sum, &sum);
            }
            store(out, row * score_pitch + column, &sum, sizes);
            square += PLANES;
        }
    } else {
        let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
        for a in 0..squares {
            for b in 0..squares {
                let (m, n) = (y + 16 * a, x + 16 * b);
                let mut sum = 0.0f32;
                for d in 0..comptime!(sizes.wide()) {
                    sum += f32::cast_from(left[(m * pitch + d) as usize])
                        * f32::cast_from(right[(n * pitch + d) as usize]);
                }
                out[(m * score_pitch + n) as usize] = sum;
            }
        }
    }
}

/// The square of a tile that begins at `start`.
#[cube]
fn square_of<F: Float>(
    tile: &SharedMemory<F>,
    start: u32,
    #[comptime] pitch: u32,
    #[comptime] ident: MatrixIdent,
    #[comptime] layout: MatrixLayout,
) -> cmma::Matrix<F> {
    let end = start + comptime!(15 * pitch + 16);
    let part = tile.slice(start as usize, end as usize);
    cmma::Matrix::<F>::from_slice(ident, 16usize, 16usize, 16usize, layout, &part, pitch)
}

#[cube]
fn store(out: &mut SharedMemory<f32>, start: u32, square: &cmma::Matrix<f32>, #[comptime] sizes: Sizes) {
    let score_pitch = comptime!(sizes.score_pitch());
    let end = start + comptime!(15 * score_pitch + 16);
    let mut part = out.slice_mut(start as usize, end as usize);
    cmma::store(&mut part, square, score_pitch, MatrixLayout::RowMajor);
}

/// Adds `weights` [side, weight_pitch], or their transpose, times `right` [side, pitch].
#[cube]
pub(super) fn mix<F: Float>(
    weights: &SharedMemory<F>,
    right: &SharedMemory<F>,
    mixed: &mut Mixed,
    #[comptime] transposed: bool,
    #[comptime] sizes: Sizes,
) {
    let (pitch, weight_pitch) = comptime!((sizes.pitch(), sizes.weight_pitch()));
    let squares = comptime!(sizes.squares());
    if sizes.matrix {
        let layout = comptime!(if transposed { MatrixLayout::ColMajor } else { MatrixLayout::RowMajor });
        #[unroll]
        for i in 0..comptime!(sizes.squares_per_plane()) {
            let square = UNIT_POS / 32 + comptime!(PLANES * i);
            if square < comptime!(squares * sizes.wide() / 16) {
                let (row, column) = (square % squares * 16, square / squares * 16);
                let sum = mixed.squares.index(i as usize);
                #[unroll]
                for k in 0..squares {
                    let inner = comptime!(16 * k);
                    let start = if transposed { inner * weight_pitch + row } else { row * weight_pitch + inner };
                    let a = square_of::<F>(weights, start, weight_pitch, MatrixIdent::A, layout);
                    let start = inner * pitch + column;
                    let b = square_of::<F>(right, start, pitch, MatrixIdent::B, MatrixLayout::RowMajor);
                    cmma::execute::<F, F, f32, f32>(&a, &b, sum, sum);
                }
            }
        }
    } else {
        let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
        let columns = comptime!(sizes.wide() / 16);
        #[unroll]
        for a in 0..squares {
            #[unroll]
            for c in 0..columns {
                let (m, d) = (y + 16 * a, x + 16 * c);
                let mut sum = mixed.numbers[(a * columns + c) as usize];
                for k in 0..sizes.side {
                    let index = if transposed { k * weight_pitch + m } else { m * weight_pitch + k };
                    sum += f32::cast_from(weights[index as usize]) * f32::cast_from(right[(k * pitch + d) as usize]);
                }
                mixed.numbers[(a * columns + c) as usize] = sum;
            }
        }
    }
}

/// Stores a chunk of the sums' columns to `out` [side, score_pitch].
#[cube]
pub(super) fn unload(mixed: &Mixed, out: &mut SharedMemory<f32>, #[comptime] chunk: u32, #[comptime] sizes: Sizes) {
    let score_pitch = comptime!(sizes.score_pitch());
    let squares = comptime!(sizes.squares());
    let first = comptime!(chunk * sizes.side);
    if sizes.matrix {
        #[unroll]
        for i in 0..comptime!(sizes.squares_per_plane()) {
            let square = UNIT_POS / 32 + comptime!(PLANES * i);
            let (row, column) = (square % squares * 16, square / squares * 16);
            if square < comptime!(squares * sizes.wide() / 16)
                && column >= first
                && column < comptime!(first + sizes.side)
            {
                store(out, row * score_pitch + column - first, mixed.squares.index(i as usize), sizes);
            }
        }
    } else {
        let (x, y) = (UNIT_POS % 16, UNIT_POS / 16);
        let columns = comptime!(sizes.wide() / 16);
        #[unroll]
        for a in 0..squares {
            #[unroll]
            for c in 0..squares {
                let column = comptime!(chunk * squares + c);
                if comptime!(column < columns) {
                    out[((y + 16 * a) * score_pitch + x + 16 * c) as usize] =
                        mixed.numbers[(a * columns + column) as usize];
                }
            }
        }
    }
}

/// Writes the sums of a tile of queries to their rows of `out` [N, H · head_dim], times `scale`.
#[cube]
pub(super) fn write_queries<F: Float>(
    mixed: &Mixed,
    out: &mut Array<F>,
    queries: &Queries,
    scale: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] sizes: Sizes,
) {
    #[unroll]
    for chunk in 0..comptime!(sizes.chunks()) {
        unload(mixed, shared, chunk, sizes);
        sync_cube();
        let mut i = UNIT_POS;
        while i < comptime!(sizes.side * sizes.side) {
            let m = i / sizes.side;
            let start = query_index(queries, m, sizes.dim, sizes);
            write::<F>(shared, out, i, is_query(queries, m, sizes), start, scale, chunk, sizes);
            i += UNITS;
        }
        sync_cube();
    }
}

/// Writes the sums of a tile of keys to their rows of `out` [N, H_kv · head_dim], times `scale`.
#[cube]
pub(super) fn write_keys<F: Float>(
    mixed: &Mixed,
    out: &mut Array<F>,
    keys: &Keys,
    scale: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] sizes: Sizes,
) {
    #[unroll]
    for chunk in 0..comptime!(sizes.chunks()) {
        unload(mixed, shared, chunk, sizes);
        sync_cube();
        let mut i = UNIT_POS;
        while i < comptime!(sizes.side * sizes.side) {
            let n = i / sizes.side;
            write::<F>(shared, out, i, is_key(keys, n), key_index(keys, n, sizes), scale, chunk, sizes);
            i += UNITS;
        }
        sync_cube();
    }
}

/// Writes element `i` of a chunk, [side, side], to the row of `out` that begins at `start`, unless it is padding.
#[cube]
#[expect(clippy::too_many_arguments)] // a unit's registers
fn write<F: Float>(
    shared: &SharedMemory<f32>,
    out: &mut Array<F>,
    i: u32,
    is_row: bool,
    start: u32,
    scale: f32,
    #[comptime] chunk: u32,
    #[comptime] sizes: Sizes,
) {
    let (row, column) = (i / sizes.side, i % sizes.side);
    let d = column + comptime!(chunk * sizes.side);
    if is_row && d < sizes.dim {
        let value = shared[(row * comptime!(sizes.score_pitch()) + column) as usize];
        out[(start + d) as usize] = F::cast_from(value * scale);
    }
}
