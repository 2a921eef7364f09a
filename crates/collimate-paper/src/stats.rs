//! Means with their errors, and pass@k.

use serde::{Deserialize, Serialize};

/// A mean over seeds with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Standard deviation of the values, with n − 1, over √n; zero for one value.
    pub standard_error: f64,
    /// Number of values.
    pub count: usize,
}

impl Estimate {
    /// Estimates the mean of some values; NaN for none.
    pub fn from_values(values: &[f64]) -> Self {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let variance = if count > 1 { squares / (count - 1) as f64 } else { 0.0 };
        Self { mean, standard_error: (variance / count as f64).sqrt(), count }
    }

    /// In percent: `92.2 ± 1.9`.
    pub fn percent(&self) -> String {
        format!("{:.1} ± {:.1}", 100.0 * self.mean, 100.0 * self.standard_error)
    }

    /// With two decimals: `−0.91 ± 0.03`.
    pub fn plain(&self) -> String {
        format!("{:.2} ± {:.2}", self.mean, self.standard_error).replace('-', "−")
    }
}

/// Unbiased estimate of the chance that one of k draws is right, given `num_right` right ones among n (Chen et al. 2021,
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
        let found = Estimate::from_values(&[1.0, 2.0, 3.0]);
        assert_eq!((found.mean, found.count), (2.0, 3));
        assert!((found.standard_error - (1.0f64 / 3.0).sqrt()).abs() < 1e-15);
        assert_eq!(Estimate::from_values(&[0.5]).standard_error, 0.0);
    }

    #[test]
    fn pass_at_k_counts_the_subsets_without_a_right_one() {
        // 4 samples, 1 right: 3 of the 6 pairs have no right one.
        assert_eq!(pass_at(2, 4, 1), 0.5);
        assert_eq!((pass_at(1, 8, 2), pass_at(8, 8, 0), pass_at(8, 8, 1)), (0.25, 0.0, 1.0));
    }
}
