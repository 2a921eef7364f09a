//! Tiles in shared memory, and their products.

use burn_cubecl::cubecl;
use cubecl::cmma::{self, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

use super::super::plan::Sizes;
use super::super::tile::{Keys, Queries, UNITS, is_key, is_query, key_place, query_place};

/// Planes of a cube.
const PLANES: u32 = UNITS / 32;

impl Sizes {
    /// Numbers of a head with room.
    pub(super) fn wide(self) -> u32 {
        self.dim.next_multiple_of(32)
    }

    /// From one row of a tile of queries, keys or values to the next; not a multiple of what memory is divided into.
    pub(super) fn pitch(self) -> u32 {
        self.wide() + 8
    }

    /// The same of a tile of scores in float32.
    pub(super) fn score_pitch(self) -> u32 {
        self.side + 4
    }

    /// The same of a tile of weights.
    pub(super) fn weight_pitch(self) -> u32 {
        self.side + 8
    }

    /// Squares of 16 by 16 along a side.
    fn squares(self) -> u32 {
        self.side / 16
    }

    /// Squares of what is mixed that a plane has.
    fn squares_of_plane(self) -> u32 {
        (self.squares() * self.wide() / 16).div_ceil(PLANES)
    }

    /// Parts of a side's width that the columns of a head are divided into.
    pub(super) fn chunks(self) -> u32 {
        self.wide().div_ceil(self.side)
    }

    /// Numbers of a tile of queries, keys or values.
    pub(super) fn tile_numbers(self) -> usize {
        (self.side * self.pitch()) as usize
    }

    /// Numbers of a tile of scores, two for each unit at least.
    pub(super) fn score_numbers(self) -> usize {
        (self.side * self.score_pitch()).max(2 * UNITS) as usize
    }

    /// Numbers of a tile of weights.
    pub(super) fn weight_numbers(self) -> usize {
        (self.side * self.weight_pitch()) as usize
    }

    /// Bytes of shared memory that the kernel with the most tiles takes, for numbers of so many bytes.
    pub(in super::super) fn matrix_bytes(self, element: usize) -> usize {
        element * (4 * self.tile_numbers() + self.weight_numbers()) + 8 * self.score_numbers()
    }
}

/// Sums of weighted rows, [side, wide] in float32: squares in the planes' registers, or numbers in the units'.
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
        for _ in 0..comptime!(sizes.squares_of_plane()) {
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

/// A tile of queries, or of rows that belong to them, [side, pitch]; zero where there is none.
#[cube]
pub(super) fn stage_queries<F: Float>(
    x: &Array<F>,
    queries: &Queries,
    tile: &mut SharedMemory<F>,
    #[comptime] sizes: Sizes,
) {
    let wide = comptime!(sizes.wide());
    let mut i = UNIT_POS;
    while i < comptime!(sizes.side * wide) {
        let (m, d) = (i / wide, i % wide);
        let seen = is_query(queries, m, sizes) && d < sizes.dim;
        let place = select(seen, query_place(queries, m, sizes.dim, sizes) + d, 0);
        tile[(m * comptime!(sizes.pitch()) + d) as usize] = select(seen, x[place as usize], F::new(0.0));
        i += UNITS;
    }
}

/// A tile of keys or values, [side, pitch]; zero where there is none.
#[cube]
pub(super) fn stage_keys<F: Float>(x: &Array<F>, keys: &Keys, tile: &mut SharedMemory<F>, #[comptime] sizes: Sizes) {
    let wide = comptime!(sizes.wide());
    let mut i = UNIT_POS;
    while i < comptime!(sizes.side * wide) {
        let (n, d) = (i / wide, i % wide);
        let seen = is_key(keys, n) && d < sizes.dim;
        let place = select(seen, key_place(keys, n, sizes) + d, 0);
        tile[(n * comptime!(sizes.pitch()) + d) as usize] = select(seen, x[place as usize], F::new(0.0));
        i += UNITS;
    }
}

/// Products of the rows of `left` with those of `right`, to `out` [side, score_pitch].
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

/// Sixteen rows of sixteen numbers of a tile.
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

/// Adds `weights` [side, weight_pitch], or their transpose, times the rows of `right` [side, pitch].
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
        for i in 0..comptime!(sizes.squares_of_plane()) {
            let square = UNIT_POS / 32 + comptime!(PLANES * i);
            if square < comptime!(squares * sizes.wide() / 16) {
                let (row, column) = (square % squares * 16, square / squares * 16);
                let sum = mixed.squares.index(i as usize);
                #[unroll]
                for k in 0..squares {
                    let (of_row, of_key) = (row, comptime!(16 * k));
                    let start =
                        if transposed { of_key * weight_pitch + of_row } else { of_row * weight_pitch + of_key };
                    let a = square_of::<F>(weights, start, weight_pitch, MatrixIdent::A, layout);
                    let start = of_key * pitch + column;
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
                    let place = if transposed { k * weight_pitch + m } else { m * weight_pitch + k };
                    sum += f32::cast_from(weights[place as usize]) * f32::cast_from(right[(k * pitch + d) as usize]);
                }
                mixed.numbers[(a * columns + c) as usize] = sum;
            }
        }
    }
}

/// A chunk of the columns of what was mixed, to `out` [side, score_pitch].
#[cube]
pub(super) fn unload(mixed: &Mixed, out: &mut SharedMemory<f32>, #[comptime] chunk: u32, #[comptime] sizes: Sizes) {
    let score_pitch = comptime!(sizes.score_pitch());
    let squares = comptime!(sizes.squares());
    let first = comptime!(chunk * sizes.side);
    if sizes.matrix {
        #[unroll]
        for i in 0..comptime!(sizes.squares_of_plane()) {
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

/// Writes what was mixed for a tile of queries to their rows of `out` [N, H · head_dim], times `scale`.
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
            let (m, column) = (i / sizes.side, i % sizes.side);
            let d = column + comptime!(chunk * sizes.side);
            if is_query(queries, m, sizes) && d < sizes.dim {
                let value = shared[(m * comptime!(sizes.score_pitch()) + column) as usize];
                out[(query_place(queries, m, sizes.dim, sizes) + d) as usize] = F::cast_from(value * scale);
            }
            i += UNITS;
        }
        sync_cube();
    }
}

/// Writes what was mixed for the first `rows` keys of a tile to their rows of `out` [N, H_kv · head_dim], times `scale`.
#[cube]
pub(super) fn write_keys<F: Float>(
    mixed: &Mixed,
    out: &mut Array<F>,
    keys: &Keys,
    rows: u32,
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
            let (n, column) = (i / sizes.side, i % sizes.side);
            let d = column + comptime!(chunk * sizes.side);
            if n < rows && d < sizes.dim {
                let value = shared[(n * comptime!(sizes.score_pitch()) + column) as usize];
                out[(key_place(keys, n, sizes) + d) as usize] = F::cast_from(value * scale);
            }
            i += UNITS;
        }
        sync_cube();
    }
}
