//! Entropy of the weights softmax(reward/α), and the α that yields a given entropy.

/// The weights of a prompt's responses, `softmax(reward / α)`.
///
/// The best reward is subtracted before dividing, so that no α > 0 overflows.
///
/// # Shapes
/// `rewards` and the result are \[K\]. `alpha` is the reward temperature, above 0.
pub fn reward_weights(rewards: &[f64], alpha: f64) -> Vec<f64> {
    let best = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = rewards.iter().map(|reward| ((reward - best) / alpha).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// Entropy in nats, `−Σ w ln w`: 0 if one response has all the weight, `ln K` if all weights are equal.
pub fn entropy(weights: &[f64]) -> f64 {
    -weights.iter().filter(|weight| **weight > 0.0).map(|weight| weight * weight.ln()).sum::<f64>()
}

/// Effective number of responses, `exp(entropy)`: between 1 and K.
pub fn effective_responses(weights: &[f64]) -> f64 {
    entropy(weights).exp()
}

/// The reward temperature α at which softmax(reward/α) has the entropy `target`, in nats. Found by bisection on ln α.
///
/// Entropy increases with α from `ln m`, for m responses with the highest reward, to `ln K`. Returns `None` if all rewards
/// are equal or the target is not strictly between these bounds.
///
/// # Shapes
/// `rewards` is \[K\].
pub fn alpha_for_entropy(rewards: &[f64], target: f64) -> Option<f64> {
    let best = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = best - rewards.iter().copied().fold(f64::INFINITY, f64::min);
    let num_best = rewards.iter().filter(|reward| **reward == best).count() as f64;
    if range.is_nan()
        || range <= 0.0
        || range.is_infinite()
        || target <= num_best.ln()
        || target >= (rewards.len() as f64).ln()
    {
        return None;
    }
    let entropy_at = |log_alpha: f64| entropy(&reward_weights(rewards, log_alpha.exp()));
    // Start with a bracket around the range of rewards and widen it until it contains the target.
    let (mut low, mut high) = (range.ln() - 1.0, range.ln() + 1.0);
    let mut widenings = 0;
    while entropy_at(low) > target || entropy_at(high) < target {
        (low, high) = (low - 2.0, high + 2.0);
        widenings += 1;
        if widenings > 100 {
            return None;
        }
    }
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if entropy_at(middle) < target { low = middle } else { high = middle }
    }
    Some(((low + high) / 2.0).exp())
}

#[cfg(test)]
mod tests {
    use std::f64::consts::LN_2;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[test]
    fn weights_are_the_softmax_of_the_scaled_rewards() {
        // e^{ln 3 / 0.5} = 9.
        let weights = reward_weights(&[3f64.ln(), 0.0], 0.5);
        assert!((weights[0] - 9.0 / 10.0).abs() < 1e-15 && (weights[1] - 1.0 / 10.0).abs() < 1e-15);
    }

    #[rstest]
    #[case(&[1.0, 0.0], 0.0)]
    #[case(&[0.5, 0.5], LN_2)]
    #[case(&[0.5, 0.25, 0.25], 0.5 * LN_2 + 0.5 * 2.0 * LN_2)]
    fn entropy_is_in_nats(#[case] weights: &[f64], #[case] expected: f64) {
        assert!((entropy(weights) - expected).abs() < 1e-15);
        assert!((effective_responses(weights) - expected.exp()).abs() < 1e-14);
    }

    #[rstest]
    #[case::all_equal(&[1.0, 1.0], 0.3)]
    #[case::more_than_uniform(&[1.0, 0.0], LN_2)]
    #[case::less_than_the_tie_allows(&[1.0, 1.0, 0.0], 0.5)]
    #[case::one_response(&[1.0], 0.1)]
    #[case::none(&[], 0.1)]
    fn an_unreachable_target_gives_none(#[case] rewards: &[f64], #[case] target: f64) {
        assert_eq!(alpha_for_entropy(rewards, target), None);
    }

    #[test]
    fn two_responses_have_a_closed_form() {
        // Weights 0.8 and 0.2 need a gap of ln 4 after scaling.
        let target = -(0.8 * 0.8f64.ln() + 0.2 * 0.2f64.ln());
        let alpha = alpha_for_entropy(&[3.0, 1.0], target).unwrap();
        assert!((alpha - 2.0 / 4f64.ln()).abs() < 1e-9, "{alpha}");
    }

    proptest! {
        #[test]
        fn the_target_entropy_is_reached(
            rewards in prop::collection::vec(-10.0..10.0f64, 2..9),
            share in 0.05..0.95f64,
        ) {
            let most = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let second = rewards.iter().copied().filter(|r| *r < most).fold(f64::NEG_INFINITY, f64::max);
            prop_assume!(second.is_finite() && most - second > 1e-3);
            let target = share * (rewards.len() as f64).ln();
            let alpha = alpha_for_entropy(&rewards, target).unwrap();
            prop_assert!((entropy(&reward_weights(&rewards, alpha)) - target).abs() < 1e-9);
        }

        #[test]
        fn weights_ignore_a_shift_and_sum_to_one(
            rewards in prop::collection::vec(-1e6..1e6f64, 1..9), alpha in 1e-4..1e3f64,
        ) {
            let weights = reward_weights(&rewards, alpha);
            prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            let moved: Vec<f64> = rewards.iter().map(|r| r.trunc() + 1024.0).collect();
            let whole: Vec<f64> = rewards.iter().map(|r| r.trunc()).collect();
            prop_assert_eq!(reward_weights(&whole, alpha), reward_weights(&moved, alpha));
        }
    }
}
