//! Correlation and slope of points.

use collimate_stats::Correlation;

/// Pearson's correlation; `None` if either side is constant, there are fewer than two points, or a value is not finite.
pub fn correlation(xs: &[f64], ys: &[f64]) -> Option<f64> {
    let mut pairs = Correlation::default();
    xs.iter().zip(ys).for_each(|(x, y)| pairs.add(*x, *y));
    pairs.pearson().filter(|correlation| correlation.is_finite())
}

/// Slope of the least-squares line through the points; NaN for fewer than two.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    covariance / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0], Some(1.0))]
    #[case(&[1.0, 2.0, 3.0], &[0.0, -1.0, -2.0], Some(-1.0))]
    #[case(&[1.0, -1.0, 1.0, -1.0], &[1.0, 1.0, -1.0, -1.0], Some(0.0))]
    #[case(&[5.0, 5.0], &[1.0, 2.0], None)]
    #[case(&[], &[], None)]
    fn correlations(#[case] xs: &[f64], #[case] ys: &[f64], #[case] expected: Option<f64>) {
        let found = correlation(xs, ys);
        assert_eq!(found.is_some(), expected.is_some());
        assert!((found.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn the_slope_of_a_line_is_its_own() {
        let points = [0.0, 1.0, 5.0].map(|x| (x, 3.0 - 0.5 * x));
        assert!((slope(&points) + 0.5).abs() < 1e-15);
    }
}
