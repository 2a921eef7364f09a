//! Products with AVX-512's `vdpbf16ps`. Nothing here needs the standard library: `tests/python/emulated_products.py`
//! compiles this file for an emulated processor.
//!
//! Arithmetic of a pair of the inner dimension, as Intel documents it: the product at the odd position is added to the sum,
//! then that at the even position, each by a fused multiply-add in float32, rounded to nearest even. Subnormal numbers are
//! taken for zero, and subnormal results become zero.
#![allow(unsafe_code)] // loads and stores of vectors take pointers

use core::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_load_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_store_ps,
};

use super::tile::{Half, LANES, PAIRS, Panels, Sums};

/// Rows that are summed at once, in 16 of the 32 registers: enough to hide the latency of the sums.
const ROWS: usize = 8;

/// The sums of all panels, one after the other, of the first `rows` rows, rounded up to a multiple of eight.
///
/// # Safety
/// The processor has AVX-512 and its bfloat16 products, and the panels as many rows.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn sum(panels: &[Panels<'_>], rows: usize, sums: &mut Sums) {
    for first in (0..rows).step_by(ROWS) {
        // SAFETY: by the caller's promise.
        unsafe { sum_rows(panels, first, sums) };
    }
}

/// Eight rows from `first` on, by 32 columns.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn sum_rows(panels: &[Panels<'_>], first: usize, sums: &mut Sums) {
    let mut totals = [[_mm512_setzero_ps(); 2]; ROWS];
    for panels in panels {
        for (tile, b) in panels.b.iter().enumerate() {
            // SAFETY: the panels have these rows, by the caller's promise, and as many tiles of `a` as of `b`.
            let rows: [*const u32; ROWS] = core::array::from_fn(|row| unsafe { panels.a.pairs(first + row, tile) });
            for pair in 0..PAIRS {
                let columns = [columns(&b.0[0], pair), columns(&b.0[1], pair)];
                for (total, row) in totals.iter_mut().zip(rows) {
                    // SAFETY: a row has 16 pairs in a tile.
                    let a = bfloat16(_mm512_set1_epi32(unsafe { row.add(pair).read_unaligned() } as i32));
                    total[0] = _mm512_dpbf16_ps(total[0], a, columns[0]);
                    total[1] = _mm512_dpbf16_ps(total[1], a, columns[1]);
                }
            }
        }
    }
    for (total, row) in totals.iter().zip(&mut sums.0[first..first + ROWS]) {
        let to = row.as_mut_ptr();
        // SAFETY: a row has 32 numbers and is aligned to 64 bytes.
        unsafe {
            _mm512_store_ps(to, total[0]);
            _mm512_store_ps(to.add(LANES), total[1]);
        }
    }
}

/// A pair of each of the 16 columns of half a tile of `b`.
#[target_feature(enable = "avx512f,avx512bf16")]
fn columns(half: &Half, pair: usize) -> __m512bh {
    let (pairs, _) = half.as_chunks::<LANES>();
    // SAFETY: 16 pairs are 64 bytes, aligned because tiles and their halves are.
    bfloat16(unsafe { _mm512_load_si512(pairs[pair].as_ptr().cast()) })
}

/// The same bits as bfloat16 numbers.
#[target_feature(enable = "avx512f,avx512bf16")]
fn bfloat16(bits: __m512i) -> __m512bh {
    // SAFETY: both types are 64 bytes that may have any value.
    unsafe { core::mem::transmute(bits) }
}
