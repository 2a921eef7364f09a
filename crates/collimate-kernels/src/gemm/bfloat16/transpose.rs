//! From one order of a tile to the other: transposes of 16 by 16 pairs.
#![allow(unsafe_code)] // calls what only some processors have

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _mm256_loadu_si256, _mm256_permute2x128_si256, _mm256_setzero_si256, _mm256_storeu_si256, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

use super::tile::{Half, LANES, PAIRS, Tile};

/// From one order to the other.
pub(super) fn transpose(tile: &Tile) -> Tile {
    let mut other = Tile::ZERO;
    for (from, to) in tile.0.iter().zip(&mut other.0) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            unsafe { transpose_avx2(from, to) };
            continue;
        }
        transpose_plain(from, to);
    }
    other
}

fn transpose_plain(from: &Half, to: &mut Half) {
    for i in 0..LANES {
        for j in 0..PAIRS {
            to[j * LANES + i] = from[i * PAIRS + j];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn transpose_avx2(from: &Half, to: &mut Half) {
    for row in [0, 8] {
        for column in [0, 8] {
            transpose_block(from, to, row, column);
        }
    }
}

/// Eight by eight: pairs, then couples of pairs, then halves of registers are interleaved. No closures: they would not be inlined.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn transpose_block(from: &Half, to: &mut Half, row: usize, column: usize) {
    let mut rows = [_mm256_setzero_si256(); 8];
    for (i, to) in rows.iter_mut().enumerate() {
        let from = &from[(row + i) * PAIRS + column..][..8];
        // SAFETY: eight numbers of four bytes are a register.
        *to = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
    }
    for i in [0, 2, 4, 6] {
        let [a, b] = [rows[i], rows[i + 1]];
        rows[i] = _mm256_unpacklo_epi32(a, b);
        rows[i + 1] = _mm256_unpackhi_epi32(a, b);
    }
    for i in [0, 4] {
        let [a, b, c, d] = [rows[i], rows[i + 1], rows[i + 2], rows[i + 3]];
        rows[i] = _mm256_unpacklo_epi64(a, c);
        rows[i + 1] = _mm256_unpackhi_epi64(a, c);
        rows[i + 2] = _mm256_unpacklo_epi64(b, d);
        rows[i + 3] = _mm256_unpackhi_epi64(b, d);
    }
    for i in 0..4 {
        let halves = [
            _mm256_permute2x128_si256::<0x20>(rows[i], rows[i + 4]),
            _mm256_permute2x128_si256::<0x31>(rows[i], rows[i + 4]),
        ];
        for (half, register) in halves.into_iter().enumerate() {
            let to = &mut to[(column + i + 4 * half) * LANES + row..][..8];
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), register) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let tile = Tile([0, 1000].map(|first| std::array::from_fn(|i| first + i as u32 * 0x1_0001)));
        let mut expected = Tile::ZERO;
        for (from, to) in tile.0.iter().zip(&mut expected.0) {
            transpose_plain(from, to);
            assert!((0..256).all(|i| to[i % 16 * 16 + i / 16] == from[i]));
        }
        assert!(transpose(&tile) == expected && transpose(&expected) == tile);
    }
}
