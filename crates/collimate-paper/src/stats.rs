//! Means with their errors, slopes, and pass@k.

use serde::{Deserialize, Serialize};

/// A mean over seeds with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Standard deviation of the values, with n − 1, over √n; zero for one value.
    pub standard_error: f64,
    /// How many values.
    pub count: usize,
}

impl Estimate {
    /// Of some values; a mean of none is not a number.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let variance = if count > 1 { squares / (count - 1) as f64 } else { 0.0 };
        Self { mean, standard_error: (variance / count as f64).sqrt(), count }
    }

    /// As a share of one hundred: `92.2 ± 1.9`.
    pub fn percent(&self) -> String {
        format!("{:.1} ± {:.1}", 100.0 * self.mean, 100.0 * self.standard_error)
    }

    /// With two decimals: `−0.91 ± 0.03`.
    pub fn plain(&self) -> String {
        format!("{:.2} ± {:.2}", self.mean, self.standard_error).replace('-', "−")
    }
}

/// Slope of the least-squares line through some points; not a number for fewer than two.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    covariance / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}

/// Unbiased estimate of the chance that one of k draws is right, from `num_right` right ones of n (Chen et al. 2021,
/// arXiv 2107.03374, eq. 1): 1 − C(n − right, k) / C(n, k).
pub fn pass_at(k: usize, n: usize, num_right: usize) -> f64 {
    if n - num_right < k {
        return 1.0;
    }
    let all_wrong: f64 = (0..k).map(|i| (n - num_right - i) as f64 / (n - i) as f64).product();
    1.0 - all_wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_error_is_that_of_the_mean() {
        let found = Estimate::of(&[1.0, 2.0, 3.0]);
        assert_eq!((found.mean, found.count), (2.0, 3));
        assert!((found.standard_error - (1.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert_eq!(Estimate::of(&[0.5]).standard_error, 0.0);
    }

    #[test]
    fn the_slope_of_a_line_is_its_own() {
        let points = [0.0, 1.0, 5.0].map(|x| (x, 3.0 - 0.5 * x));
        assert!((slope(&points) + 0.5).abs() < 1e-15);
    }

    #[test]
    fn pass_at_k_counts_the_subsets_without_a_right_one() {
        // Of 4 with 1 right: 3 of the 6 pairs hold none.
        assert_eq!(pass_at(2, 4, 1), 0.5);
        assert_eq!((pass_at(1, 8, 2), pass_at(8, 8, 0), pass_at(8, 8, 1)), (0.25, 0.0, 1.0));
    }
}
