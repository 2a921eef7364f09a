//! Factors in tiles: from rows or columns of bfloat16, or from float32, which is rounded on the way.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::tile::{DEPTH, LANES, PAIRS, SIDE, Tile};
use super::transpose::transpose;
use crate::simd::dispatch;

/// In which order a tile has its pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// [lane][pair], as kernels want `a`.
    ByLane,
    /// [pair][lane], as they want `b`.
    ByPair,
}

/// Rows of a matrix, as they are in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct InPlace<'t> {
    /// From the first row on.
    pub(super) numbers: &'t [bf16],
    /// Numbers from a row to the next.
    pub(super) stride: usize,
}

/// A factor to pack: `lanes` rows of `a`, or columns of `b`, of `depth` numbers.
pub(super) trait Lanes<'f>: Sync {
    fn lanes(&self) -> usize;

    /// The inner dimension.
    fn depth(&self) -> usize;

    /// Fills a tile in the order that is faster to read, and says which. What is beyond the factor is zero.
    fn read(&self, lane: usize, depth: usize, tile: &mut Tile) -> Order;

    /// The lanes as they are in memory, if their pairs lie there as they do in tiles.
    fn in_place(&self) -> Option<InPlace<'f>> {
        None
    }
}

/// Packs some tiles of lanes, each along the whole inner dimension: [tile of lanes][tile of depth].
pub(super) fn pack(factor: &dyn Lanes<'_>, tiles: Range<usize>, order: Order, parallel: bool) -> Vec<Tile> {
    let depth_tiles = factor.depth().div_ceil(DEPTH);
    let packed = |index: usize| {
        let (lane, depth) = (tiles.start + index / depth_tiles, index % depth_tiles);
        let mut tile = Tile::ZERO;
        match factor.read(lane * SIDE, depth * DEPTH, &mut tile) == order {
            true => tile,
            false => transpose(&tile),
        }
    };
    let count = tiles.len() * depth_tiles;
    match parallel {
        true => (0..count).into_par_iter().with_min_len(8).map(packed).collect(),
        false => (0..count).map(packed).collect(),
    }
}

/// What becomes of a number when it is packed.
pub(super) trait Convert: Sync {
    type Number: Copy + Sync;

    /// The bits of the bfloat16 number.
    fn bits(number: Self::Number) -> u32;

    /// The numbers themselves, if they are kept as they are.
    fn kept(_: &[Self::Number]) -> Option<&[bf16]> {
        None
    }
}

/// A bfloat16 number as it is.
pub(super) struct Kept;

impl Convert for Kept {
    type Number = bf16;

    #[inline(always)]
    fn bits(number: bf16) -> u32 {
        u32::from(number.to_bits())
    }

    fn kept(numbers: &[bf16]) -> Option<&[bf16]> {
        Some(numbers)
    }
}

/// A float32 number rounded to the nearest bfloat16, ties to even.
pub(super) struct Rounded;

impl Convert for Rounded {
    type Number = f32;

    #[inline(always)]
    fn bits(number: f32) -> u32 {
        let bits = number.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        // Rounding could turn a NaN into infinity: it keeps its upper half, made quiet.
        if number.is_nan() { bits >> 16 | 0x40 } else { rounded }
    }
}

/// What rounding takes away from a float32 number, rounded itself; zero where the number is not finite once rounded.
pub(super) struct Rest;

impl Convert for Rest {
    type Number = f32;

    #[inline(always)]
    fn bits(number: f32) -> u32 {
        let rounded = f32::from_bits(Rounded::bits(number) << 16);
        if rounded.is_finite() { Rounded::bits(number - rounded) } else { 0 }
    }
}

/// Lanes in memory: number `depth` of lane `lane` is at `lane * lane_stride + depth * depth_stride`.
pub(super) struct Strided<'a, C: Convert> {
    pub(super) data: &'a [C::Number],
    pub(super) lanes: usize,
    pub(super) depth: usize,
    pub(super) lane_stride: usize,
    pub(super) depth_stride: usize,
}

impl<'f, C: Convert> Lanes<'f> for Strided<'f, C> {
    fn lanes(&self) -> usize {
        self.lanes
    }

    fn depth(&self) -> usize {
        self.depth
    }

    fn read(&self, lane: usize, depth: usize, tile: &mut Tile) -> Order {
        let (lanes, depths) = (SIDE.min(self.lanes - lane), DEPTH.min(self.depth - depth));
        let data = &self.data[lane * self.lane_stride + depth * self.depth_stride..];
        if self.lane_stride == 1 {
            dispatch(
                #[inline(always)]
                || self.read_columns(data, lanes, depths, tile),
            );
            return Order::ByPair;
        }
        dispatch(
            #[inline(always)]
            || match (self.depth_stride, depths) {
                (1, DEPTH) => self.read_rows(data, lanes, tile),
                _ => self.read_any(data, lanes, depths, tile),
            },
        );
        Order::ByLane
    }

    fn in_place(&self) -> Option<InPlace<'f>> {
        let has_whole_tiles = self.depth_stride == 1 && self.depth.is_multiple_of(DEPTH);
        let numbers = if has_whole_tiles { C::kept(self.data) } else { None };
        numbers.map(|numbers| InPlace { numbers, stride: self.lane_stride })
    }
}

/// A pair of numbers.
#[inline(always)]
fn pair<C: Convert>(even: C::Number, odd: C::Number) -> u32 {
    C::bits(even) | C::bits(odd) << 16
}

impl<C: Convert> Strided<'_, C> {
    /// Lanes of 32 numbers that lie side by side.
    #[inline(always)]
    fn read_rows(&self, data: &[C::Number], lanes: usize, tile: &mut Tile) {
        let rows = tile.0.as_flattened_mut().as_chunks_mut::<PAIRS>().0;
        for (lane, row) in rows.iter_mut().take(lanes).enumerate() {
            let (numbers, _) = data[lane * self.lane_stride..][..DEPTH].as_chunks::<2>();
            row.iter_mut().zip(numbers).for_each(|(to, &[even, odd])| *to = pair::<C>(even, odd));
        }
    }

    /// Lanes side by side, of which each number is a stride from the next.
    #[inline(always)]
    fn read_columns(&self, data: &[C::Number], lanes: usize, depths: usize, tile: &mut Tile) {
        let [first, last] = tile.0.each_mut().map(|half| half.as_chunks_mut::<LANES>().0);
        for ((first, last), depth) in first.iter_mut().zip(last).zip((0..depths).step_by(2)) {
            let even = &data[depth * self.depth_stride..][..lanes];
            let odd = if depth + 1 < depths { &data[(depth + 1) * self.depth_stride..][..lanes] } else { &[] };
            match (<&[C::Number; SIDE]>::try_from(even), <&[C::Number; SIDE]>::try_from(odd)) {
                (Ok(even), Ok(odd)) => {
                    (0..LANES).for_each(|lane| first[lane] = pair::<C>(even[lane], odd[lane]));
                    (0..LANES).for_each(|lane| last[lane] = pair::<C>(even[LANES + lane], odd[LANES + lane]));
                }
                _ => {
                    first.iter_mut().chain(&mut *last).zip(even).for_each(|(to, &number)| *to = C::bits(number));
                    first.iter_mut().chain(last).zip(odd).for_each(|(to, &number)| *to |= C::bits(number) << 16);
                }
            }
        }
    }

    /// Any lanes, one number after the other.
    #[inline(always)]
    fn read_any(&self, data: &[C::Number], lanes: usize, depths: usize, tile: &mut Tile) {
        let rows = tile.0.as_flattened_mut().as_chunks_mut::<PAIRS>().0;
        for (lane, row) in rows.iter_mut().take(lanes).enumerate() {
            for depth in 0..depths {
                let bits = C::bits(data[lane * self.lane_stride + depth * self.depth_stride]);
                row[depth / 2] |= bits << (depth % 2 * 16);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_nearest_even() {
        let mut numbers =
            vec![0.0, -0.0, 1.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40, 3e-45];
        numbers.extend([0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff, 0xbf81_8000].map(f32::from_bits));
        numbers.extend((0..100_000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9))));
        for number in numbers {
            let (found, expected) = (Rounded::bits(number), bf16::from_f32(number));
            assert_eq!(found, u32::from(expected.to_bits()), "{number}");
            let rest = f64::from(f32::from_bits(Rest::bits(number) << 16));
            let is_far_from_the_ends = number.is_finite() && number.abs() > 1e-33 && number.abs() < 1e38;
            let error = (f64::from(number) - expected.to_f64() - rest).abs();
            assert!(!is_far_from_the_ends || error <= f64::from(number).abs() * 2f64.powi(-17), "{number}");
            assert!(expected.is_finite() || rest == 0.0, "{number}");
        }
    }
}
