//! Vector additions and sums.

use rayon::prelude::*;

use crate::element::Element;
use crate::simd::{CHUNK, dispatch, sum_map};

/// `y += factor · x`, both \[n\].
pub fn add_scaled<Y: Element, X: Element>(y: &mut [Y], factor: f32, x: &[X]) {
    assert_eq!(y.len(), x.len(), "operands of one size");
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        dispatch(
            #[inline(always)]
            || {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = Y::narrow(factor.mul_add(x.widen(), y.widen()));
                }
            },
        );
    });
}

/// Adds row m of `values` [M, width] to row `rows[m]` of `out` [_, width]; rows may repeat, and each addition is rounded.
pub fn add_rows<T: Element, V: Element>(out: &mut [T], width: usize, rows: &[u32], values: &[V]) {
    assert_eq!(values.len(), rows.len() * width, "one row of values per row");
    for (&row, values) in rows.iter().zip(values.chunks_exact(width.max(1))) {
        let out = &mut out[row as usize * width..(row as usize + 1) * width];
        out.iter_mut().zip(values).for_each(|(out, value)| *out = T::narrow(out.widen() + value.widen()));
    }
}

/// Sum of squares, in float64 from float32 partial sums.
pub fn sum_of_squares<T: Element>(x: &[T]) -> f64 {
    let parts: Vec<f64> = x
        .par_chunks(CHUNK)
        .map(|chunk| {
            dispatch(
                #[inline(always)]
                || {
                    let mut total = 0.0;
                    for part in chunk.chunks(512) {
                        total += f64::from(sum_map(part, |x| x.widen() * x.widen()));
                    }
                    total
                },
            )
        })
        .collect();
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, in_threads, numbers};

    #[test]
    fn sums_are_those_of_float64_whatever_the_threads() {
        let (x, y) = (numbers(100_003, 1), numbers(100_003, 2));
        let expected: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let found = sum_of_squares(&x);
        assert!((found - expected).abs() < 1e-6 * expected, "{found} against {expected}");
        assert_eq!(in_threads(1, || sum_of_squares(&x)), in_threads(3, || sum_of_squares(&x)));
        let mut sum = y.clone();
        add_scaled(&mut sum, 0.5, &x);
        let expected: Vec<f64> = y.iter().zip(&x).map(|(&y, &x)| f64::from(y) + 0.5 * f64::from(x)).collect();
        assert_close(&sum, &expected, 1e-7);
    }

    #[test]
    fn rows_that_repeat_are_added_each_time() {
        let mut out = vec![1.0; 6];
        add_rows(&mut out, 2, &[2, 0, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(out, [1.0 + 3.0, 1.0 + 4.0, 1.0, 1.0, 1.0 + 1.0 + 5.0, 1.0 + 2.0 + 6.0]);
    }
}
