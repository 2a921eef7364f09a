//! Rotary position embedding, in place.

use rayon::prelude::*;

use crate::element::Element;
use crate::simd::dispatch;

/// Rows per task.
const TASK: usize = 32;

/// Rotates the halves a and b of each head's first `rotary_dim` columns: (a, b) → (a cos − b sin, b cos + a sin). With
/// `inverse` it rotates by the opposite angle, which is also the backward pass. The other columns stay unchanged.
///
/// `x` is [N, heads · head_dim], `cos` and `sin` [N, rotary_dim / 2].
pub fn rotate<T: Element>(x: &mut [T], cos: &[f32], sin: &[f32], head_dim: usize, rotary_dim: usize, inverse: bool) {
    let half = rotary_dim / 2;
    let rows = cos.len() / half.max(1);
    if rows == 0 {
        return;
    }
    assert!(cos.len() == sin.len() && x.len().is_multiple_of(rows * head_dim), "one row of angles per row");
    assert!(rotary_dim <= head_dim, "at most a whole head is rotated");
    let width = x.len() / rows;
    let sign = if inverse { -1.0 } else { 1.0 };
    let angles = cos.par_chunks(TASK * half).zip(sin.par_chunks(TASK * half));
    x.par_chunks_mut(TASK * width).zip(angles).for_each(|(x, (cos, sin))| {
        dispatch(
            #[inline(always)]
            || {
                let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
                for (row, (cos, sin)) in x.chunks_exact_mut(width).zip(angles) {
                    for head in row.chunks_exact_mut(head_dim) {
                        let (a, b) = head.split_at_mut(half);
                        for (((a, b), &cos), &sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                            let sin = sign * sin;
                            let (left, right) = (a.widen(), b.widen());
                            *a = T::narrow(left * cos - right * sin);
                            *b = T::narrow(right * cos + left * sin);
                        }
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::{assert_close, numbers};

    #[rstest]
    fn a_rotation_is_the_formula_and_its_inverse_undoes_it(#[values(10, 6)] rotary_dim: usize) {
        let (rows, heads, head_dim) = (70, 3, 10);
        let half = rotary_dim / 2;
        let angles = numbers(rows * half, 1);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let x = numbers(rows * heads * head_dim, 2);
        let mut rotated = x.clone();
        rotate(&mut rotated, &cos, &sin, head_dim, rotary_dim, false);
        let expected = (0..x.len()).map(|i| {
            let (row, within) = (i / (heads * head_dim), i % head_dim);
            let angle = angles[row * half + within % half];
            let (cos, sin) = (f64::from(angle.cos()), f64::from(angle.sin()));
            match within / half {
                0 => f64::from(x[i]) * cos - f64::from(x[i + half]) * sin,
                1 => f64::from(x[i]) * cos + f64::from(x[i - half]) * sin,
                _ => f64::from(x[i]),
            }
        });
        assert_close(&rotated, &expected.collect::<Vec<_>>(), 1e-6);
        rotate(&mut rotated, &cos, &sin, head_dim, rotary_dim, true);
        assert_close(&rotated, &x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), 1e-6);
    }
}
