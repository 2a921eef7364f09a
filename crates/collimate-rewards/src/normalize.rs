//! Normalization of a prompt's rewards.

use std::fmt;
use std::str::FromStr;

use super::rule::parse_arguments;

/// How to normalize a prompt's K rewards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalize {
    /// [`z_score`].
    ZScore,
    /// [`min_max`].
    MinMax,
    /// [`clip`] to `[low, high]`.
    Clip {
        /// Lower limit.
        low: f64,
        /// Upper limit.
        high: f64,
    },
}

impl Normalize {
    /// Normalizes one prompt's rewards, \[K\].
    pub fn apply(&self, rewards: &[f64]) -> Vec<f64> {
        match *self {
            Self::ZScore => z_score(rewards),
            Self::MinMax => min_max(rewards),
            Self::Clip { low, high } => clip(rewards, low, high),
        }
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZScore => f.write_str("z_score"),
            Self::MinMax => f.write_str("min_max"),
            Self::Clip { low, high } => write!(f, "clip:{low},{high}"),
        }
    }
}

impl FromStr for Normalize {
    type Err = String;

    /// `z_score`, `min_max` or `clip:LOW,HIGH`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, arguments) = parse_arguments(text);
        match (name, arguments) {
            ("z_score", None) => Ok(Self::ZScore),
            ("min_max", None) => Ok(Self::MinMax),
            ("clip", Some(bounds)) => {
                let bounds: Vec<f64> = bounds.split(',').filter_map(|bound| bound.trim().parse().ok()).collect();
                match bounds[..] {
                    [low, high] if low <= high => Ok(Self::Clip { low, high }),
                    _ => Err(format!("\"{text}\": expected clip:LOW,HIGH with LOW at most HIGH, such as clip:-1,1")),
                }
            }
            _ => Err(format!("\"{text}\" is not a normalization; there are z_score, min_max and clip:LOW,HIGH")),
        }
    }
}

/// Subtracts the mean and divides by the population standard deviation. Equal rewards become zeros.
pub fn z_score(rewards: &[f64]) -> Vec<f64> {
    let num_responses = rewards.len() as f64;
    // Scale first, since squares of large rewards would overflow.
    let scale = rewards.iter().fold(0.0f64, |most, reward| most.max(reward.abs()));
    if scale == 0.0 || all_equal(rewards) {
        return vec![0.0; rewards.len()];
    }
    let mean = rewards.iter().map(|reward| reward / scale).sum::<f64>() / num_responses;
    let deviations: Vec<f64> = rewards.iter().map(|reward| reward / scale - mean).collect();
    let deviation = (deviations.iter().map(|d| d * d).sum::<f64>() / num_responses).sqrt();
    if deviation == 0.0 {
        return vec![0.0; rewards.len()];
    }
    deviations.iter().map(|d| d / deviation).collect()
}

/// Shifts and scales rewards so that the lowest is 0 and the highest 1. Equal rewards become zeros.
pub fn min_max(rewards: &[f64]) -> Vec<f64> {
    let low = rewards.iter().copied().fold(f64::INFINITY, f64::min);
    let high = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if rewards.is_empty() || low == high {
        return vec![0.0; rewards.len()];
    }
    // Halve first, since the range of two huge rewards of opposite sign would overflow.
    rewards.iter().map(|reward| (reward / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)).collect()
}

/// Clips rewards to `[low, high]`; `low` must not exceed `high`.
pub fn clip(rewards: &[f64], low: f64, high: f64) -> Vec<f64> {
    rewards.iter().map(|reward| reward.max(low).min(high)).collect()
}

fn all_equal(rewards: &[f64]) -> bool {
    rewards.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Normalize::ZScore, &[1.0, 3.0], &[-1.0, 1.0])]
    #[case(Normalize::ZScore, &[0.1, 0.1, 0.1], &[0.0, 0.0, 0.0])]
    #[case(Normalize::MinMax, &[2.0, 6.0, 3.0], &[0.0, 1.0, 1.0 / 4.0])]
    #[case(Normalize::MinMax, &[5.0], &[0.0])]
    #[case(Normalize::Clip { low: -1.0, high: 1.0 }, &[-7.0, 0.5, 7.0], &[-1.0, 0.5, 1.0])]
    fn normalizes_as_documented(#[case] rule: Normalize, #[case] rewards: &[f64], #[case] expected: &[f64]) {
        let result = rule.apply(rewards);
        assert_eq!(result.len(), expected.len());
        assert!(result.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{result:?}");
    }

    #[rstest]
    #[case("z_score", Some(Normalize::ZScore))]
    #[case("clip:-1, 2.5", Some(Normalize::Clip { low: -1.0, high: 2.5 }))]
    #[case("clip:2,1", None)]
    #[case("clip", None)]
    #[case("softmax", None)]
    fn is_parsed_from_text(#[case] text: &str, #[case] expected: Option<Normalize>) {
        assert_eq!(text.parse().ok(), expected);
    }

    proptest! {
        #[test]
        fn z_scores_have_mean_zero_and_unit_deviation(rewards in prop::collection::vec(-1e3..1e3f64, 2..9)) {
            prop_assume!(rewards.iter().any(|r| (r - rewards[0]).abs() > 1e-3));
            let z = z_score(&rewards);
            let num = z.len() as f64;
            prop_assert!(z.iter().sum::<f64>().abs() < 1e-6);
            prop_assert!((z.iter().map(|v| v * v).sum::<f64>() / num - 1.0).abs() < 1e-6);
        }

        #[test]
        fn results_are_finite_at_any_magnitude(rewards in prop::collection::vec(prop::num::f64::NORMAL, 1..9)) {
            prop_assert!(z_score(&rewards).iter().chain(&min_max(&rewards)).all(|v| v.is_finite()));
        }
    }
}
