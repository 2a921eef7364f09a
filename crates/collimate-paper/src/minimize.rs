//! A small optimizer for tabular policies: BFGS with backtracking, in float64.

use anyhow::Result;

/// The end of a descent.
#[derive(Debug, Clone, PartialEq)]
pub struct Minimum {
    /// Coordinates.
    pub point: Vec<f64>,
    /// Loss.
    pub loss: f64,
    /// Largest absolute entry of the gradient.
    pub gradient: f64,
    /// Number of steps taken.
    pub steps: usize,
}

/// Minimizes `loss`, which returns its value and gradient, from `start`: until the largest absolute entry of the gradient is
/// at most `tolerance`, `max_steps` are taken, or rounding stops all progress.
///
/// # Errors
/// Errors of `loss`.
pub fn minimize(
    start: &[f64],
    tolerance: f64,
    max_steps: usize,
    mut loss: impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>,
) -> Result<Minimum> {
    let size = start.len();
    let mut point = start.to_vec();
    let (mut value, mut gradient) = loss(&point)?;
    let mut inverse = identity(size);
    let mut steps = 0;
    while largest(&gradient) > tolerance && steps < max_steps {
        let direction: Vec<f64> = inverse.iter().map(|row| -dot(row, &gradient)).collect();
        let slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            // Rounding has spoiled the estimate of the curvature.
            inverse = identity(size);
            steps += 1;
            continue;
        }
        let Some((next, next_value, next_gradient)) = search(&point, &direction, slope, value, &mut loss)? else {
            break;
        };
        let moved: Vec<f64> = next.iter().zip(&point).map(|(a, b)| a - b).collect();
        let turned: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        update(&mut inverse, &moved, &turned);
        (point, value, gradient) = (next, next_value, next_gradient);
        steps += 1;
    }
    Ok(Minimum { loss: value, gradient: largest(&gradient), point, steps })
}

type Found = (Vec<f64>, f64, Vec<f64>);

/// Halves the step until the loss falls enough, or near the end, where rounding hides that, until the slope falls enough.
fn search(
    point: &[f64],
    direction: &[f64],
    slope: f64,
    value: f64,
    loss: &mut impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>,
) -> Result<Option<Found>> {
    let mut size = 1.0;
    for _ in 0..40 {
        let next: Vec<f64> = point.iter().zip(direction).map(|(x, d)| x + size * d).collect();
        let (next_value, gradient) = loss(&next)?;
        let rounding = 1e-14 * value.abs().max(1.0);
        let falls = next_value <= value + 1e-4 * size * slope;
        let levels = next_value <= value + rounding && dot(&gradient, direction).abs() < 0.9 * slope.abs();
        if next_value.is_finite() && (falls || levels) {
            return Ok(Some((next, next_value, gradient)));
        }
        size /= 2.0;
    }
    Ok(None)
}

/// The BFGS update of the inverse Hessian.
fn update(inverse: &mut [Vec<f64>], moved: &[f64], turned: &[f64]) {
    let curvature = dot(moved, turned);
    if curvature <= 1e-300 {
        return;
    }
    let pulled: Vec<f64> = inverse.iter().map(|row| dot(row, turned)).collect();
    let factor = (1.0 + dot(turned, &pulled) / curvature) / curvature;
    for (i, row) in inverse.iter_mut().enumerate() {
        for (j, entry) in row.iter_mut().enumerate() {
            *entry += factor * moved[i] * moved[j] - (pulled[i] * moved[j] + moved[i] * pulled[j]) / curvature;
        }
    }
}

fn identity(size: usize) -> Vec<Vec<f64>> {
    (0..size).map(|i| (0..size).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valley_is_followed_to_its_minimum() {
        // Rosenbrock's function has its minimum 0 at (1, 1).
        let loss = |x: &[f64]| {
            let bend = x[1] - x[0] * x[0];
            let gradient = vec![-2.0 * (1.0 - x[0]) - 400.0 * x[0] * bend, 200.0 * bend];
            Ok(((1.0 - x[0]).powi(2) + 100.0 * bend * bend, gradient))
        };
        let found = minimize(&[-1.2, 1.0], 1e-10, 200, loss).expect("a minimum");
        assert!(found.gradient <= 1e-10 && (found.point[0] - 1.0).abs() < 1e-9, "{found:?}");
    }
}
