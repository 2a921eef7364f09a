//! Weights that are packed once.

use std::ops::Range;

use super::Bfloat16Matrix;
use super::driver::Scale;
use super::instructions::Instructions;
use super::pack::{Lanes, Order, Rounded, pack};
use super::product::{self, Product};
use super::tile::{DEPTH, LANES, PAIRS, SIDE, Tile};
use super::transpose::transpose;
use super::widened::Widened;
use crate::element::{Element, Start, in_float32};
use crate::gemm::{Matrix, PackedWeight, View, multiply_packed};
use crate::simd::dispatch;

/// A weight W of bfloat16 numbers, [rows, columns], packed for products.
///
/// Its order is that of products with Wᵀ, in which pairs of numbers lie side by side along the columns of W; these need no
/// packing. Products with W sum along its rows, so every pair has to be made anew: W is rearranged tile by tile for each such
/// product. This takes one pass over W, which is little beside a product with many rows. A second copy in the other order would
/// take as much memory as float32.
///
/// A number takes two bytes; rows and columns are rounded up to multiples of 32.
#[derive(Debug, Clone)]
pub struct PackedBfloat16 {
    /// [tile of rows][tile of columns], by pair.
    pub(super) tiles: Vec<Tile>,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl PackedBfloat16 {
    /// Packs a weight.
    pub fn new(weight: Bfloat16Matrix<'_>) -> Self {
        Self::of(&weight.lanes())
    }

    /// Packs a weight of float32 numbers, each rounded to the nearest bfloat16, ties to even.
    ///
    /// # Panics
    /// If the sizes do not fit the slice.
    pub fn rounded(weight: Matrix<'_>) -> Self {
        let weight = View::from(weight);
        assert!(weight.is_sound(), "the size of a weight");
        Self::of(&weight.lanes::<Rounded>())
    }

    fn of(weight: &dyn Lanes<'_>) -> Self {
        let (rows, columns) = (weight.lanes(), weight.depth());
        Self { tiles: pack(weight, 0..rows.div_ceil(SIDE), Order::ByPair, true), rows, columns }
    }

    /// The bytes that it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.tiles)
    }

    /// The tile of some rows and columns, by their number.
    fn tile(&self, row: usize, column: usize) -> &Tile {
        &self.tiles[row / SIDE * self.columns.div_ceil(DEPTH) + column / DEPTH]
    }
}

impl PackedWeight for PackedBfloat16 {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn unpack(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        let width = columns.len();
        for row in (rows.start / SIDE * SIDE..rows.end).step_by(SIDE) {
            for column in (columns.start / DEPTH * DEPTH..columns.end).step_by(DEPTH) {
                let tile = transpose(self.tile(row, column));
                let (lanes, _) = tile.0.as_flattened().as_chunks::<PAIRS>();
                let [begin, end] = [columns.start.max(column), columns.end.min(column + DEPTH)];
                dispatch(
                    #[inline(always)]
                    || {
                        for wanted in rows.start.max(row)..rows.end.min(row + SIDE) {
                            let to = &mut out[(wanted - rows.start) * width..];
                            let to = &mut to[begin - columns.start..end - columns.start];
                            widen(&lanes[wanted - row], begin - column, to);
                        }
                    },
                );
            }
        }
    }
}

/// The numbers of a lane from `first` on, in float32.
#[inline(always)]
fn widen(lane: &[u32; PAIRS], first: usize, to: &mut [f32]) {
    let mut numbers = [0.0; DEPTH];
    for (to, &pair) in numbers.as_chunks_mut::<2>().0.iter_mut().zip(lane) {
        *to = [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)];
    }
    to.copy_from_slice(&numbers[first..][..to.len()]);
}

/// Bytes of a packed weight of this size, and what a product with the weight itself rearranges of it at a time.
pub fn packed_bfloat16_bytes(rows: usize, columns: usize) -> [usize; 2] {
    let (rows, columns) = (rows.div_ceil(SIDE), columns.div_ceil(DEPTH));
    [rows * columns, product::chunk(columns, rows)].map(|tiles| tiles * size_of::<Tile>())
}

/// The columns of a packed weight as lanes, for products with it.
struct Columns<'w>(&'w PackedBfloat16);

impl Lanes<'_> for Columns<'_> {
    fn lanes(&self) -> usize {
        self.0.columns
    }

    fn depth(&self) -> usize {
        self.0.rows
    }

    fn read(&self, lane: usize, depth: usize, tile: &mut Tile) -> Order {
        let from = self.0.tile(depth, lane);
        dispatch(
            #[inline(always)]
            || separate(from, tile),
        );
        Order::ByLane
    }
}

/// Columns of a weight's tile, each by itself.
#[inline(always)]
fn separate(from: &Tile, tile: &mut Tile) {
    // Half a tile of the weight has 16 rows of it, and side by side pairs of its columns, which are two lanes here.
    let (lanes, _) = tile.0.as_flattened_mut().as_chunks_mut::<{ 2 * PAIRS }>();
    for (half, from) in from.0.iter().enumerate() {
        for (to, from) in lanes.iter_mut().zip(from.as_chunks::<LANES>().0) {
            let (even, odd) = to.split_at_mut(PAIRS);
            let [even, odd] = [even, odd].map(|lane| &mut lane[half * PAIRS / 2..][..PAIRS / 2]);
            for ((even, odd), [first, second]) in even.iter_mut().zip(odd).zip(from.as_chunks::<2>().0) {
                *even = first & 0xffff | second << 16;
                *odd = first >> 16 | second & 0xffff_0000;
            }
        }
    }
}

/// `out = alpha · a · weight`, or `alpha · a · weightᵀ` with `transposed`, added to `out` with `accumulate`; as
/// [`multiply_bf16`](super::multiply_bf16) with the unpacked weight, to the bit.
///
/// # Panics
/// If the sizes do not fit each other or the slices.
pub fn multiply_prepared<T: Element>(
    out: &mut [T],
    accumulate: bool,
    alpha: f32,
    a: Bfloat16Matrix<'_>,
    weight: &PackedBfloat16,
    transposed: bool,
) {
    let scale = Scale { alpha, accumulate };
    match Instructions::fastest() {
        Some(instructions) => prepared(Product { instructions, scale }, out, a, weight, transposed),
        None => in_float32(out, Start::of(accumulate), |out| unpacking(scale, out, a, weight, transposed)),
    }
}

/// [`multiply_prepared`] in float32.
pub(super) fn unpacking(
    scale: Scale,
    out: &mut [f32],
    a: Bfloat16Matrix<'_>,
    weight: &PackedBfloat16,
    transposed: bool,
) {
    multiply_packed(out, scale.accumulate, scale.alpha, Widened::new(a).matrix(), weight, transposed);
}

/// [`multiply_prepared`] with given instructions.
pub(super) fn prepared<T: Element>(
    product: Product,
    out: &mut [T],
    a: Bfloat16Matrix<'_>,
    weight: &PackedBfloat16,
    transposed: bool,
) {
    match transposed {
        true => product.of_packed(out, &a.lanes(), &weight.tiles, weight.rows, weight.columns),
        false => product.of_lanes(out, &[&a.lanes()], &[&Columns(weight)], &[[0, 0]]),
    }
}
