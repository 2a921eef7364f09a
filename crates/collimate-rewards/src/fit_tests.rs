use proptest::prelude::*;

use super::*;
use crate::mean_ranks;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn under_a_weak_prior_two_responses_get_the_log_odds_of_their_wins() {
    let utilities = bradley_terry(&[vec![0.0, 3.0], vec![1.0, 0.0]], 1e-9);
    assert!((utilities[0] - utilities[1] - 3f64.ln()).abs() < 1e-6, "{utilities:?}");
}

#[test]
fn equal_responses_get_zero() {
    assert_eq!(bradley_terry(&pairwise_wins(&[2.0; 4]), DEFAULT_PRIOR_PRECISION), [0.0; 4]);
    assert!(plackett_luce(&[1.0; 4], DEFAULT_PRIOR_PRECISION).iter().all(|u| u.abs() < 1e-12));
}

#[test]
fn one_response_or_none_is_fine() {
    assert_eq!(bradley_terry(&pairwise_wins(&[2.0]), 0.1), [0.0]);
    assert_eq!(plackett_luce(&[], 0.1), [0.0; 0]);
}

#[test]
fn a_single_win_satisfies_its_equation() {
    // 1 − σ(2u) = λu, for Plackett–Luce and Bradley–Terry alike: with K = 2 they are one model.
    let from_pairs = bradley_terry(&pairwise_wins(&[1.0, 0.0]), 0.1);
    let from_ranks = plackett_luce(&[1.0, 2.0], 0.1);
    assert!((1.0 - sigmoid(2.0 * from_pairs[0]) - 0.1 * from_pairs[0]).abs() < 1e-12);
    assert!((from_pairs[0] - from_ranks[0]).abs() < 1e-12);
}

fn scores() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-3i32..3, 2..9).prop_map(|scores| scores.into_iter().map(f64::from).collect())
}

proptest! {
    #[test]
    fn bradley_terry_is_stationary(
        wins in prop::collection::vec(prop::collection::vec(0u8..5, 6), 6), precision in 0.01..2.0f64,
    ) {
        let wins: Vec<Vec<f64>> = wins.iter().map(|row| row.iter().map(|w| f64::from(*w)).collect()).collect();
        let utilities = bradley_terry(&wins, precision);
        for i in 0..6 {
            let surplus: f64 = (0..6)
                .filter(|&j| j != i)
                .map(|j| wins[i][j] - (wins[i][j] + wins[j][i]) * sigmoid(utilities[i] - utilities[j]))
                .sum();
            prop_assert!((surplus - precision * utilities[i]).abs() < 1e-9);
        }
    }

    #[test]
    fn plackett_luce_is_stationary_without_ties(order in Just((1..7).collect::<Vec<i32>>()).prop_shuffle()) {
        let ranks: Vec<f64> = order.into_iter().map(f64::from).collect();
        let utilities = plackett_luce(&ranks, 0.1);
        for (i, rank) in ranks.iter().enumerate() {
            // Response i is among those left at every stage up to its own.
            let expected: f64 = (1..=*rank as usize)
                .map(|stage| {
                    let left = ranks.iter().zip(&utilities).filter(|(r, _)| **r >= stage as f64);
                    utilities[i].exp() / left.map(|(_, u)| u.exp()).sum::<f64>()
                })
                .sum();
            prop_assert!((1.0 - expected - 0.1 * utilities[i]).abs() < 1e-9);
        }
    }

    #[test]
    fn both_preserve_order_and_ties(scores in scores()) {
        let pairs = bradley_terry(&pairwise_wins(&scores), 0.1);
        let ranks = plackett_luce(&mean_ranks(&scores), 0.1);
        for utilities in [pairs, ranks] {
            prop_assert!(utilities.iter().sum::<f64>().abs() < 1e-9);
            for i in 0..scores.len() {
                for j in 0..scores.len() {
                    if scores[i] == scores[j] {
                        prop_assert!((utilities[i] - utilities[j]).abs() < 1e-9);
                    } else {
                        prop_assert_eq!(scores[i] > scores[j], utilities[i] > utilities[j]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_permutation_of_the_responses_permutes_the_utilities(scores in scores()) {
        let reversed: Vec<f64> = scores.iter().rev().copied().collect();
        let forward = plackett_luce(&mean_ranks(&scores), 0.1);
        let backward = plackett_luce(&mean_ranks(&reversed), 0.1);
        for (a, b) in forward.iter().zip(backward.iter().rev()) {
            prop_assert!((a - b).abs() < 1e-9);
        }
    }

    #[test]
    fn tiny_priors_still_converge(scores in scores()) {
        let utilities = plackett_luce(&mean_ranks(&scores), 1e-6);
        prop_assert!(utilities.iter().all(|u| u.is_finite()));
    }
}
