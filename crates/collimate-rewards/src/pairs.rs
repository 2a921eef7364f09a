//! Pairs of a chosen and a rejected response from K scored ones.

use std::fmt;
use std::str::FromStr;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::rule::parse_arguments;

/// Which responses of a group form pairs. Equal rewards never do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PairRule {
    /// The best against the worst. Among ties the earlier is the better.
    BestVsWorst,
    /// The best against a random worse one (Zephyr's rule); the draw depends on `seed` and the group's index.
    BestVsRandom {
        /// Seed of the draw.
        seed: u64,
    },
    /// All pairs whose rewards differ, by at least `margin`.
    AllPairs {
        /// Minimum difference of rewards.
        margin: f64,
    },
    /// The best against the worse one whose reward is closest to the mean of all K.
    BestVsMean,
}

/// Indices of a pair's responses in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The better response.
    pub chosen: usize,
    /// The worse response.
    pub rejected: usize,
}

/// Forms the pairs of a group, one at a time; none if all rewards are equal. They are in the order of the chosen responses,
/// then of the rejected ones.
///
/// `index` is the group's position in the data. Together with the seed it determines the random draw, independently of
/// other groups.
///
/// # Shapes
/// `rewards` (higher is better) is \[K\].
pub fn pairs(rewards: &[f64], rule: PairRule, index: usize) -> impl Iterator<Item = Pair> + '_ {
    let all = AllPairs::for_rule(rewards, rule);
    let one = if all.is_none() { one_pair(rewards, rule, index) } else { None };
    one.into_iter().chain(all.into_iter().flat_map(AllPairs::each))
}

/// Number of the pairs of a group, which may be K · (K − 1) / 2, without forming them.
pub fn num_pairs(rewards: &[f64], rule: PairRule) -> usize {
    match AllPairs::for_rule(rewards, rule) {
        Some(all) => (0..rewards.len()).map(|chosen| all.worse_than(chosen).len()).sum(),
        None => one_pair(rewards, rule, 0).iter().count(),
    }
}

fn one_pair(rewards: &[f64], rule: PairRule, index: usize) -> Option<Pair> {
    let chosen = best(rewards)?;
    let below: Vec<usize> = (0..rewards.len()).filter(|&i| rewards[i] < rewards[chosen]).collect();
    if below.is_empty() {
        return None;
    }
    let rejected = match rule {
        PairRule::BestVsRandom { seed } => below[group_rng(seed, index).random_range(0..below.len())],
        PairRule::BestVsMean => {
            let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
            lowest(&below, |i| (rewards[i] - mean).abs())
        }
        // Reversed, since among ties the last is the worst.
        _ => lowest(&below.iter().rev().copied().collect::<Vec<_>>(), |i| rewards[i]),
    };
    Some(Pair { chosen, rejected })
}

/// Index of the first of the highest rewards; `None` without responses.
fn best(rewards: &[f64]) -> Option<usize> {
    (0..rewards.len()).reduce(|best, i| if rewards[i] > rewards[best] { i } else { best })
}

/// The first candidate with the lowest cost; `candidates` must not be empty.
fn lowest(candidates: &[usize], cost: impl Fn(usize) -> f64) -> usize {
    candidates[1..].iter().fold(candidates[0], |lowest, &i| if cost(i) < cost(lowest) { i } else { lowest })
}

/// All pairs of a group, in memory for its responses only.
struct AllPairs<'a> {
    rewards: &'a [f64],
    margin: f64,
    /// Indices of the responses from the lowest reward to the highest.
    ascending: Vec<usize>,
}

impl<'a> AllPairs<'a> {
    /// `None` if the rule is another.
    fn for_rule(rewards: &'a [f64], rule: PairRule) -> Option<Self> {
        let PairRule::AllPairs { margin } = rule else { return None };
        let mut ascending: Vec<usize> = (0..rewards.len()).collect();
        ascending.sort_by(|&a, &b| rewards[a].total_cmp(&rewards[b]));
        Some(Self { rewards, margin, ascending })
    }

    /// The responses that a chosen one makes a pair with, from the lowest reward.
    fn worse_than(&self, chosen: usize) -> &[usize] {
        let reward = self.rewards[chosen];
        let is_worse = |&i: &usize| reward > self.rewards[i] && reward - self.rewards[i] >= self.margin;
        &self.ascending[..self.ascending.partition_point(is_worse)]
    }

    fn each(self) -> impl Iterator<Item = Pair> + 'a {
        (0..self.rewards.len()).flat_map(move |chosen| {
            let mut worse = self.worse_than(chosen).to_vec();
            worse.sort_unstable();
            worse.into_iter().map(move |rejected| Pair { chosen, rejected })
        })
    }
}

/// A separate generator for each group, so that skipping or sharding groups does not affect other draws.
fn group_rng(seed: u64, index: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index as u64);
    rng
}

impl fmt::Display for PairRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BestVsWorst => f.write_str("best_vs_worst"),
            Self::BestVsRandom { seed } => write!(f, "best_vs_random:{seed}"),
            Self::AllPairs { margin } => write!(f, "all_pairs:{margin}"),
            Self::BestVsMean => f.write_str("best_vs_mean"),
        }
    }
}

impl FromStr for PairRule {
    type Err = String;

    /// `best_vs_worst`, `best_vs_random[:SEED]` (seed 42), `all_pairs[:MARGIN]` (margin 0) or `best_vs_mean`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "\"{text}\" is not a pair rule; there are best_vs_worst, best_vs_random[:SEED], all_pairs[:MARGIN] and \
                 best_vs_mean"
            )
        };
        match parse_arguments(text) {
            ("best_vs_worst", None) => Ok(Self::BestVsWorst),
            ("best_vs_mean", None) => Ok(Self::BestVsMean),
            ("best_vs_random", seed) => {
                seed.unwrap_or("42").parse().map(|seed| Self::BestVsRandom { seed }).map_err(|_| bad())
            }
            ("all_pairs", margin) => match margin.unwrap_or("0").parse::<f64>() {
                Ok(margin) if margin >= 0.0 => Ok(Self::AllPairs { margin }),
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain(PairRule::BestVsWorst, &[1.0, 3.0, 2.0], &[(1, 0)])]
    #[case::first_best_last_worst(PairRule::BestVsWorst, &[1.0, 3.0, 3.0, 1.0], &[(1, 3)])]
    #[case::all_equal(PairRule::BestVsWorst, &[1.0, 1.0], &[])]
    #[case::alone(PairRule::BestVsWorst, &[1.0], &[])]
    #[case::none(PairRule::BestVsWorst, &[], &[])]
    #[case::only_one_below(PairRule::BestVsRandom { seed: 1 }, &[3.0, 3.0, 1.0], &[(0, 2)])]
    #[case::every_two(PairRule::AllPairs { margin: 0.0 }, &[1.0, 2.0, 2.0], &[(1, 0), (2, 0)])]
    #[case::margin_reached(PairRule::AllPairs { margin: 2.0 }, &[1.0, 2.0, 3.0], &[(2, 0)])]
    #[case::closest_to_the_mean(PairRule::BestVsMean, &[0.0, 9.0, 4.0, 1.0], &[(1, 2)])]
    fn pairs_follow_the_rule(#[case] rule: PairRule, #[case] rewards: &[f64], #[case] expected: &[(usize, usize)]) {
        let found: Vec<(usize, usize)> = pairs(rewards, rule, 0).map(|p| (p.chosen, p.rejected)).collect();
        assert_eq!(found, expected);
        assert_eq!(num_pairs(rewards, rule), expected.len());
    }

    #[test]
    fn the_random_draw_depends_only_on_seed_and_index_and_reaches_everyone() {
        let rewards = [5.0, 1.0, 2.0, 3.0];
        let draw = |index| pairs(&rewards, PairRule::BestVsRandom { seed: 7 }, index).next().expect("a pair").rejected;
        assert_eq!((0..50).map(draw).collect::<Vec<_>>(), (0..50).map(draw).collect::<Vec<_>>());
        let mut seen: Vec<usize> = (0..50).map(draw).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [1, 2, 3]);
    }

    #[test]
    fn pairs_are_formed_as_they_are_asked_for() {
        let rewards: Vec<f64> = (0..100_000).map(f64::from).collect();
        let rule = PairRule::AllPairs { margin: 0.0 };
        // Five billion pairs: held at once they would take 80 GB.
        assert_eq!(num_pairs(&rewards, rule), 100_000 * 99_999 / 2);
        let first: Vec<Pair> = pairs(&rewards, rule, 0).take(3).collect();
        let expected = [(1, 0), (2, 0), (2, 1)].map(|(chosen, rejected)| Pair { chosen, rejected });
        assert_eq!(first, expected);
    }

    #[rstest]
    #[case("best_vs_random:3", Some(PairRule::BestVsRandom { seed: 3 }))]
    #[case("all_pairs", Some(PairRule::AllPairs { margin: 0.0 }))]
    #[case("all_pairs:-1", None)]
    #[case("best_vs_worst:1", None)]
    fn rules_are_parsed_from_text(#[case] text: &str, #[case] expected: Option<PairRule>) {
        assert_eq!(text.parse().ok(), expected);
    }

    proptest! {
        #[test]
        fn the_chosen_is_always_better(rewards in prop::collection::vec(-2i32..3, 0..8), index in 0usize..99) {
            let rewards: Vec<f64> = rewards.into_iter().map(f64::from).collect();
            let rules = [
                PairRule::BestVsWorst,
                PairRule::BestVsRandom { seed: 1 },
                PairRule::AllPairs { margin: 1.0 },
                PairRule::BestVsMean,
            ];
            for rule in rules {
                for pair in pairs(&rewards, rule, index) {
                    prop_assert!(rewards[pair.chosen] > rewards[pair.rejected]);
                }
            }
        }
    }
}
