//! Rewards from ranks, and ranks from scores.

/// Linear reward of a rank, `(K − rank) / (K − 1)`: 1 for the best response, 0 for the last.
///
/// This is our own convention. Rank 1 is best; tied responses may share a rank or have fractional ranks. With ranks from
/// [`mean_ranks`], the reward is the fraction of siblings a response beats, ties counting half. A single response (K = 1)
/// gets 1.
///
/// # Shapes
/// `ranks` and the result are \[K\].
pub fn linear_rank(ranks: &[f64]) -> Vec<f64> {
    let num_responses = ranks.len() as f64;
    if ranks.len() < 2 {
        return vec![1.0; ranks.len()];
    }
    ranks.iter().map(|rank| (num_responses - rank) / (num_responses - 1.0)).collect()
}

/// Ranks of scores, 1 for the highest; tied scores share the mean of their ranks.
///
/// # Shapes
/// `scores` (higher is better) and the result are \[K\].
pub fn mean_ranks(scores: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut ranks = vec![0.0; scores.len()];
    let mut above = 0;
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        tied.iter().for_each(|&k| ranks[k] = above as f64 + (tied.len() + 1) as f64 / 2.0);
        above += tied.len();
    }
    ranks
}

/// NDCG's gain of a relevance grade, `2^relevance − 1`, which emphasizes differences at the top.
///
/// Relevance is higher-is-better; for a ranking it is `K − rank`.
pub fn ndcg_gain(relevance: f64) -> f64 {
    relevance.exp2() - 1.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::order(&[1.0, 2.0, 3.0], &[1.0, 0.5, 0.0])]
    #[case::shared_rank(&[1.0, 1.0, 3.0, 4.0], &[1.0, 1.0, 1.0 / 3.0, 0.0])]
    #[case::alone(&[1.0], &[1.0])]
    #[case::none(&[], &[])]
    fn linear_rank_runs_from_one_to_zero(#[case] ranks: &[f64], #[case] expected: &[f64]) {
        assert_eq!(linear_rank(ranks), expected);
    }

    #[rstest]
    #[case(&[0.1, 9.0, 3.0], &[3.0, 1.0, 2.0])]
    #[case::tie_at_the_top(&[5.0, 5.0, 1.0], &[1.5, 1.5, 3.0])]
    #[case::all_tied(&[2.0, 2.0, 2.0], &[2.0, 2.0, 2.0])]
    fn ties_share_the_mean_of_their_ranks(#[case] scores: &[f64], #[case] expected: &[f64]) {
        assert_eq!(mean_ranks(scores), expected);
    }

    #[rstest]
    #[case(0.0, 0.0)]
    #[case(3.0, 8.0 - 1.0)]
    #[case(-1.0, 0.5 - 1.0)]
    fn gain_doubles_with_each_grade(#[case] relevance: f64, #[case] expected: f64) {
        assert_eq!(ndcg_gain(relevance), expected);
    }

    proptest! {
        #[test]
        fn ranks_sum_to_the_triangular_number(scores in prop::collection::vec(-3i32..3, 1..9)) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let num = scores.len() as f64;
            prop_assert_eq!(mean_ranks(&scores).iter().sum::<f64>(), num * (num + 1.0) / 2.0);
        }

        #[test]
        fn the_reward_of_a_mean_rank_is_the_fraction_of_siblings_beaten(scores in prop::collection::vec(-3i32..3, 2..9)) {
            let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            let rewards = linear_rank(&mean_ranks(&scores));
            for (i, reward) in rewards.iter().enumerate() {
                let won: f64 = (0..scores.len())
                    .filter(|&j| j != i)
                    .map(|j| if scores[i] > scores[j] { 1.0 } else if scores[i] == scores[j] { 0.5 } else { 0.0 })
                    .sum();
                prop_assert!((reward - won / (scores.len() as f64 - 1.0)).abs() < 1e-12);
            }
        }
    }
}
