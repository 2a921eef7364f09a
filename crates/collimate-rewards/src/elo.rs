//! Elo ratings, the online counterpart of Bradley–Terry.

/// Parameters of Elo ratings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EloOptions {
    /// K-factor: the largest change of a rating in one game.
    pub k: f64,
    /// Base of the odds: a lead of `scale` points means odds of `base` to 1.
    pub base: f64,
    /// Rating difference that multiplies the odds by `base`.
    pub scale: f64,
}

impl Default for EloOptions {
    fn default() -> Self {
        Self { k: 4.0, base: 10.0, scale: 400.0 }
    }
}

/// Elo ratings after every pair of a prompt's responses has played once, in the order (0,1), (0,2), … (1,2), ….
///
/// The higher score wins; equal scores draw. Ratings start at 0 and sum to 0. (A constant offset would not affect any
/// objective.) After so few games, ratings differ by a few points at most: choose α accordingly, or normalize. Elo depends
/// on the order of the games; use Bradley–Terry if that matters.
///
/// # Shapes
/// `scores` (higher is better) and the result are \[K\].
pub fn elo(scores: &[f64], options: &EloOptions) -> Vec<f64> {
    let mut ratings = vec![0.0; scores.len()];
    for i in 0..scores.len() {
        for j in i + 1..scores.len() {
            let outcome = match scores[i].partial_cmp(&scores[j]) {
                Some(std::cmp::Ordering::Greater) => 1.0,
                Some(std::cmp::Ordering::Less) => 0.0,
                _ => 0.5,
            };
            let expected = 1.0 / (1.0 + options.base.powf((ratings[j] - ratings[i]) / options.scale));
            let step = options.k * (outcome - expected);
            ratings[i] += step;
            ratings[j] -= step;
        }
    }
    ratings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_win_between_equals_moves_ratings_by_half_of_k() {
        assert_eq!(elo(&[7.0, 3.0], &EloOptions::default()), [4.0 * 0.5, -4.0 * 0.5]);
        assert_eq!(elo(&[3.0, 3.0], &EloOptions::default()), [0.0, 0.0]);
    }

    #[test]
    fn a_favorite_gains_less_from_a_win() {
        let ratings = elo(&[3.0, 2.0, 1.0], &EloOptions::default());
        let expected_after_one_win = 1.0 / (1.0 + 10f64.powf(-2.0 / 400.0));
        assert!((ratings[0] - (2.0 + 4.0 * (1.0 - expected_after_one_win))).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn ratings_sum_to_zero(scores in prop::collection::vec(-3i32..3, 0..9)) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            prop_assert!(elo(&scores, &EloOptions::default()).iter().sum::<f64>().abs() < 1e-9);
        }
    }
}
