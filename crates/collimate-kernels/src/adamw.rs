//! AdamW's update, in one pass over memory.

use rayon::prelude::*;

use crate::simd::{CHUNK, dispatch};

/// The scalars of an AdamW update, in PyTorch's order of operations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamwStep {
    /// Multiplies the gradient first; the factor of clipping by global norm.
    pub gradient_scale: f64,
    /// Decay rate of the first moment, β₁.
    pub beta1: f64,
    /// Decay rate of the second moment, β₂.
    pub beta2: f64,
    /// `lr / (1 − β₁ᵗ)`.
    pub step_size: f64,
    /// `√(1 − β₂ᵗ)`.
    pub correction: f64,
    /// Added to the root of the second moment after bias correction, ε.
    pub epsilon: f64,
    /// `1 − lr·λ`, the factor of weight decay.
    pub decay: f64,
}

/// `p ← p·decay`, `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, `p ← p − step_size·m / (√v/correction + ε)`, all \[n\].
pub fn adamw(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamwStep) {
    assert!(p.len() == g.len() && p.len() == m.len() && p.len() == v.len(), "operands of one size");
    let (scale, decay) = (step.gradient_scale as f32, step.decay as f32);
    let (beta1, rest1) = (step.beta1 as f32, (1.0 - step.beta1) as f32);
    let (beta2, rest2) = (step.beta2 as f32, (1.0 - step.beta2) as f32);
    let (size, correction, epsilon) = (step.step_size as f32, step.correction as f32, step.epsilon as f32);
    let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
    p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(moments).for_each(|((p, g), (m, v))| {
        dispatch(
            #[inline(always)]
            || {
                for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                    let g = g * scale;
                    *m = beta1 * *m + rest1 * g;
                    *v = beta2 * *v + rest2 * (g * g);
                    *p = *p * decay - size * (*m / (v.sqrt() / correction + epsilon));
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, numbers};

    #[test]
    fn an_update_is_the_formula_in_float64() {
        let n = 40_001;
        let (p, g, m) = (numbers(n, 1), numbers(n, 2), numbers(n, 3));
        let v: Vec<f32> = numbers(n, 4).iter().map(|x| x * x).collect();
        let step = AdamwStep {
            gradient_scale: 0.25,
            beta1: 0.9,
            beta2: 0.999,
            step_size: 1e-2 / (1.0 - 0.9f64.powi(3)),
            correction: (1.0 - 0.999f64.powi(3)).sqrt(),
            epsilon: 1e-8,
            decay: 1.0 - 1e-2 * 0.1,
        };
        let (mut new_p, mut new_m, mut new_v) = (p.clone(), m.clone(), v.clone());
        adamw(&mut new_p, &g, &mut new_m, &mut new_v, &step);
        let mut expected = [Vec::new(), Vec::new(), Vec::new()];
        for i in 0..n {
            let g = 0.25 * f64::from(g[i]);
            let m = 0.9 * f64::from(m[i]) + 0.1 * g;
            let v = 0.999 * f64::from(v[i]) + 0.001 * g * g;
            let p = f64::from(p[i]) * step.decay - step.step_size * m / (v.sqrt() / step.correction + 1e-8);
            [p, m, v].into_iter().zip(&mut expected).for_each(|(x, list)| list.push(x));
        }
        assert_close(&new_p, &expected[0], 1e-6);
        assert_close(&new_m, &expected[1], 1e-6);
        assert_close(&new_v, &expected[2], 1e-6);
    }
}
