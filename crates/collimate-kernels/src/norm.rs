//! RMSNorm.

use rayon::prelude::*;

use crate::element::Element;
use crate::simd::{dispatch, sum_map, sum_zip};

/// Target number of elements per task.
const TASK: usize = 1 << 14;

/// Rows per task, whatever the number of threads.
fn rows_per_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// `out = x / √(mean(x²) + eps) · weight` for each row of `weight.len()` numbers; `x` and `out` are [N, D].
pub fn rms_norm<T: Element>(x: &[T], weight: &[f32], eps: f32, out: &mut [T]) {
    let width = weight.len();
    assert!(x.len() == out.len() && x.len().is_multiple_of(width.max(1)), "rows of the weight's width");
    let task = rows_per_task(width) * width;
    out.par_chunks_mut(task.max(1)).zip(x.par_chunks(task.max(1))).for_each(|(out, x)| {
        dispatch(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let scale = inverse_rms(x, eps);
                    for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
                        *out = T::narrow(x.widen() * scale * w);
                    }
                }
            },
        );
    });
}

/// Replaces the gradient of the output, `d` [N, D], by that of `x`, and adds the weight's, \[D\], to `d_weight` if given.
pub fn rms_norm_backward<T: Element, D: Element>(
    x: &[T],
    weight: &[f32],
    eps: f32,
    d: &mut [D],
    d_weight: Option<&mut [f32]>,
) {
    let width = weight.len();
    assert!(x.len() == d.len() && x.len().is_multiple_of(width.max(1)), "rows of the weight's width");
    let wants_weight = d_weight.is_some();
    let task = (rows_per_task(width) * width).max(1);
    let parts = d.par_chunks_mut(task).zip(x.par_chunks(task)).map(|(d, x)| {
        let mut d_weight = vec![0.0; if wants_weight { width } else { 0 }];
        let mut weighted = vec![0.0; width];
        dispatch(
            #[inline(always)]
            || {
                for (d, x) in d.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    row_backward(x, weight, eps, d, &mut weighted, &mut d_weight);
                }
            },
        );
        d_weight
    });
    let parts: Vec<Vec<f32>> = parts.collect();
    if let Some(d_weight) = d_weight {
        for part in parts {
            d_weight.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
    }
}

#[inline(always)]
fn inverse_rms<T: Element>(x: &[T], eps: f32) -> f32 {
    1.0 / (sum_map(x, |x| x.widen() * x.widen()) / x.len() as f32 + eps).sqrt()
}

/// With x̂ = x·s and g = d·weight: dx = s (g − x̂ · mean(g·x̂)), dweight = d·x̂. `g` is overwritten.
#[inline(always)]
fn row_backward<T: Element, D: Element>(
    x: &[T],
    weight: &[f32],
    eps: f32,
    d: &mut [D],
    g: &mut [f32],
    d_weight: &mut [f32],
) {
    let scale = inverse_rms(x, eps);
    for ((sum, &x), &d) in d_weight.iter_mut().zip(x).zip(&*d) {
        *sum += d.widen() * (x.widen() * scale);
    }
    for ((g, &d), &w) in g.iter_mut().zip(&*d).zip(weight) {
        *g = d.widen() * w;
    }
    let mean = sum_zip(g, x, |g, x| g * (x.widen() * scale)) / x.len() as f32;
    for ((d, &g), &x) in d.iter_mut().zip(&*g).zip(x) {
        *d = D::narrow(scale * (g - x.widen() * scale * mean));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::{assert_close, in_threads, numbers};

    const EPS: f32 = 1e-5;

    fn expected(x: &[f32], weight: &[f32]) -> Vec<f64> {
        let row = |row: &[f32]| {
            let mean: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / row.len() as f64;
            let scale = 1.0 / (mean + f64::from(EPS)).sqrt();
            row.iter().zip(weight).map(|(&x, &w)| f64::from(x) * scale * f64::from(w)).collect::<Vec<_>>()
        };
        x.chunks(weight.len()).flat_map(row).collect()
    }

    #[rstest]
    fn forward_and_backward_are_those_of_float64(
        #[values(1, 40, 700)] rows: usize,
        #[values(8, 67, 576)] width: usize,
    ) {
        let (x, weight, d) = (numbers(rows * width, 1), numbers(width, 2), numbers(rows * width, 3));
        let mut out = vec![0.0; rows * width];
        rms_norm(&x, &weight, EPS, &mut out);
        assert_close(&out, &expected(&x, &weight), 1e-6);

        let (mut dx, mut dw) = (d.clone(), vec![1.0; width]);
        rms_norm_backward(&x, &weight, EPS, &mut dx, Some(&mut dw));
        let (mut ex, mut ew) = (Vec::new(), vec![1.0f64; width]);
        for (x, d) in x.chunks(width).zip(d.chunks(width)) {
            let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let scale = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / width as f64 + f64::from(EPS)).sqrt();
            let g: Vec<f64> = d.iter().zip(&weight).map(|(&d, &w)| f64::from(d) * f64::from(w)).collect();
            let dot: f64 = g.iter().zip(&x).map(|(g, x)| g * x).sum();
            // d/dx_j of Σ_i g_i x_i s(x): s g_j − s³ x_j (g·x) / D.
            ex.extend(g.iter().zip(&x).map(|(g, x)| scale * g - scale.powi(3) * x * dot / width as f64));
            ew.iter_mut().zip(d).zip(&x).for_each(|((w, &d), x)| *w += f64::from(d) * x * scale);
        }
        assert_close(&dx, &ex, 2e-6);
        assert_close(&dw, &ew, 2e-6);
        let mut without = d.clone();
        rms_norm_backward(&x, &weight, EPS, &mut without, None);
        assert_eq!(without, dx);
    }

    #[test]
    fn neither_threads_nor_other_rows_change_a_row() {
        let (rows, width) = (300, 100);
        let (x, weight, d) = (numbers(rows * width, 1), numbers(width, 2), numbers(rows * width, 3));
        let run = |threads: usize, rows: usize| {
            let (mut out, mut dx, mut dw) = (vec![0.0; rows * width], d[..rows * width].to_vec(), vec![0.0; width]);
            in_threads(threads, || {
                rms_norm(&x[..rows * width], &weight, EPS, &mut out);
                rms_norm_backward(&x[..rows * width], &weight, EPS, &mut dx, Some(&mut dw));
            });
            (out, dx, dw)
        };
        let all = run(1, rows);
        assert!(all == run(2, rows) && all == run(3, rows));
        let few = run(2, 7);
        assert!(few.0 == all.0[..7 * width] && few.1 == all.1[..7 * width]);
    }
}
