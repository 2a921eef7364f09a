//! Gradients without calculus.

/// Central differences of `loss` at a point: (f(x + s) − f(x − s)) / 2s for each coordinate.
///
/// The error is about s² times the third derivative, plus rounding of size |f|·1e-16 / s.
pub fn central_differences(loss: impl Fn(&[f64]) -> f64, at: &[f64], step: f64) -> Vec<f64> {
    let mut point = at.to_vec();
    let mut slope = |k: usize| {
        point[k] = at[k] + step;
        let above = loss(&point);
        point[k] = at[k] - step;
        let below = loss(&point);
        point[k] = at[k];
        (above - below) / (2.0 * step)
    };
    (0..at.len()).map(&mut slope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_a_quadratic_are_exact_but_for_rounding() {
        let gradient = central_differences(|x| x[0] * x[0] + 3.0 * x[1], &[2.0, 5.0], 1e-3);
        assert!((gradient[0] - 4.0).abs() < 1e-10 && (gradient[1] - 3.0).abs() < 1e-10, "{gradient:?}");
    }
}
