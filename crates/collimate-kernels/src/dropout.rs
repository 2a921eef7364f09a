//! Dropout whose draws depend only on a key and an index.

use std::ops::Range;

use rayon::prelude::*;

use crate::element::Element;
use crate::simd::dispatch;

/// Rows that share a stream of draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropoutRows {
    /// Rows of the matrix.
    pub rows: Range<usize>,
    /// Index of the first of them in the stream, so that rows gathered from a sequence keep their draws.
    pub first: usize,
    /// Identifies the stream: equal keys give equal draws.
    pub key: u64,
}

/// Zeroes each element of `x` [N, width] with the given probability and scales the others by 1 / (1 − probability).
///
/// Rows outside all streams are left unchanged. An element's draw depends on its stream's key and its index in the stream.
pub fn dropout<T: Element>(x: &mut [T], width: usize, rows: &[DropoutRows], probability: f64) {
    for stream in rows {
        let part = &mut x[stream.rows.start * width..stream.rows.end * width];
        let first = stream.first * width;
        part.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, part)| {
            dispatch(
                #[inline(always)]
                || draw(part, (first + chunk * CHUNK) as u32, stream.key, probability),
            );
        });
    }
}

/// The factors of [`dropout`], [N, width]: 0 or 1 / (1 − probability).
pub fn dropout_mask(num_rows: usize, width: usize, rows: &[DropoutRows], probability: f64) -> Vec<f32> {
    let mut mask = vec![1.0; num_rows * width];
    dropout(&mut mask, width, rows, probability);
    mask
}

/// Elements per task.
const CHUNK: usize = 1 << 14;

#[inline(always)]
fn draw<T: Element>(x: &mut [T], first: u32, key: u64, probability: f64) {
    let scale = (1.0 / (1.0 - probability)) as f32;
    // A draw of 32 bits is below the threshold with the given probability.
    let threshold = (probability * 2f64.powi(32)) as u32;
    let (low, high) = (key as u32, (key >> 32) as u32);
    for (i, x) in x.iter_mut().enumerate() {
        let index = first.wrapping_add(i as u32);
        let drawn = mix(mix(index.wrapping_mul(0x9e37_79b9).wrapping_add(low)) ^ high);
        *x = T::narrow(if drawn < threshold { 0.0 } else { x.widen() * scale });
    }
}

/// A bijection of 32 bits in which every input bit affects every output bit.
#[inline(always)]
fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(key: u64) -> Vec<f32> {
        dropout_mask(100, 1000, &[DropoutRows { rows: 0..100, first: 0, key }], 0.25)
    }

    #[test]
    fn the_given_share_is_dropped_and_the_expectation_kept() {
        let mask = mask(7);
        let dropped = mask.iter().filter(|&&m| m == 0.0).count() as f64 / 1e5;
        let mean = mask.iter().map(|&m| f64::from(m)).sum::<f64>() / 1e5;
        // Five standard deviations of a binomial share: 5 sqrt(p (1 − p) / n).
        let bound = 5.0 * (0.25 * 0.75 / 1e5f64).sqrt();
        assert!((dropped - 0.25).abs() < bound, "{dropped}");
        assert!((mean - 1.0).abs() < bound / 0.75, "{mean}");
    }

    #[test]
    fn streams_and_neighboring_draws_are_independent() {
        let share = |pairs: &mut dyn Iterator<Item = (f32, f32)>| {
            pairs.filter(|&(a, b)| a == 0.0 && b == 0.0).count() as f64 / 1e5
        };
        // Both dropped with probability 1/16; five standard deviations.
        let bound = 5.0 * (1.0 / 16.0 * 15.0 / 16.0 / 1e5f64).sqrt();
        let first = mask(7);
        for other in [8, 7 + (1 << 32), u64::MAX] {
            let both = share(&mut first.iter().copied().zip(mask(other)));
            assert!((both - 1.0 / 16.0).abs() < bound, "key {other}: {both}");
        }
        for lag in [1, 16, 1000] {
            let both = share(&mut first.iter().copied().zip(first[lag..].iter().copied()));
            assert!((both - 1.0 / 16.0).abs() < bound, "lag {lag}: {both}");
        }
    }

    #[test]
    fn draws_depend_only_on_the_index_in_their_stream() {
        let rows = |rows: Range<usize>, key| DropoutRows { rows, first: 0, key };
        let together = dropout_mask(9, 7, &[rows(0..4, 1), rows(6..9, 2)], 0.5);
        let alone = dropout_mask(3, 7, &[rows(0..3, 2)], 0.5);
        assert_eq!(together[6 * 7..], alone);
        assert!(together[4 * 7..6 * 7].iter().all(|&m| m == 1.0), "rows without a stream are unchanged");
        let last = dropout_mask(1, 7, &[DropoutRows { rows: 0..1, first: 2, key: 2 }], 0.5);
        assert_eq!(alone[2 * 7..], last, "a gathered row keeps its draws");
    }
}
