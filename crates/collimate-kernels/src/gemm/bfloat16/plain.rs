//! Products in plain code, for comparisons on processors without instructions: slower than products in float32.
//!
//! Sums have the order of AVX-512's; subnormal numbers stay what they are.
#![allow(unsafe_code)] // rows of a matrix are read where they are

use super::tile::{DEPTH, Half, LANES, PAIRS, Panels, SIDE, Sums};
use crate::simd::dispatch;

/// Rows that are summed at once.
const ROWS: usize = 4;

/// The sums of all panels, one after the other, of the first `rows` rows, rounded up to a multiple of four.
///
/// # Safety
/// The panels have as many rows.
pub(super) unsafe fn sum(panels: &[Panels<'_>], rows: usize, sums: &mut Sums) {
    dispatch(
        #[inline(always)]
        // SAFETY: by the caller's promise.
        || (0..rows).step_by(ROWS).for_each(|first| unsafe { sum_rows(panels, first, sums) }),
    );
}

/// Four rows from `first` on, by 32 columns.
#[inline(always)]
unsafe fn sum_rows(panels: &[Panels<'_>], first: usize, sums: &mut Sums) {
    let mut totals = [[0.0; SIDE]; ROWS];
    for panels in panels {
        for (tile, b) in panels.b.iter().enumerate() {
            // SAFETY: the panels have these rows, by the caller's promise, and as many tiles of `a` as of `b`.
            let rows: [*const u32; ROWS] = std::array::from_fn(|row| unsafe { panels.a.pairs(first + row, tile) });
            for pair in 0..PAIRS {
                let columns = columns(&b.0, pair);
                for (totals, row) in totals.iter_mut().zip(rows) {
                    // SAFETY: a row has 16 pairs in a tile.
                    let [even, odd] = numbers(unsafe { row.add(pair).read_unaligned() });
                    for (total, &[b_even, b_odd]) in totals.iter_mut().zip(&columns) {
                        *total = even.mul_add(b_even, odd.mul_add(b_odd, *total));
                    }
                }
            }
        }
    }
    sums.0[first..first + ROWS].copy_from_slice(&totals);
}

/// A pair of each of the 32 columns of a tile.
#[inline(always)]
fn columns(halves: &[Half; 2], pair: usize) -> [[f32; DEPTH / PAIRS]; SIDE] {
    let mut columns = [[0.0; DEPTH / PAIRS]; SIDE];
    for (columns, half) in columns.as_chunks_mut::<LANES>().0.iter_mut().zip(halves) {
        let (pairs, _) = half.as_chunks::<LANES>();
        columns.iter_mut().zip(&pairs[pair]).for_each(|(to, &pair)| *to = numbers(pair));
    }
    columns
}

/// The numbers at the even and at the odd position of a pair.
#[inline(always)]
fn numbers(pair: u32) -> [f32; 2] {
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)]
}
