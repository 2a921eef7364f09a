//! The choice, and how sure it is.

use crate::knobs::Candidate;
use crate::short_run::Score;

/// A difference counts if it is more than this many times its standard error.
const TOLD_APART: f64 = 2.0;

/// The choice, its scores and those of the runner-up, seed by seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The best setting.
    pub chosen: Candidate,
    /// Its scores, by seed.
    pub scores: Vec<Score>,
    /// The second best, with its scores by the same seeds; `None` if no other came as far.
    pub runner_up: Option<(Candidate, Vec<Score>)>,
    /// Held-out prompts behind an accuracy.
    pub num_held_out: usize,
    /// Whether the time was up before the last run.
    pub is_cut: bool,
}

/// The lead over the runner-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sureness {
    /// Mean over the seeds.
    pub difference: f64,
    /// Its standard error, the larger one of two: that over the seeds, whose differences are paired, and, for an accuracy, that of
    /// two shares of so many held-out prompts. `None` if a single seed has rewards.
    pub error: Option<f64>,
}

impl Sureness {
    /// Whether the choice is better than the runner-up by more than two standard errors.
    pub fn tells_apart(&self) -> bool {
        self.error.is_some_and(|error| self.difference > TOLD_APART * error)
    }
}

impl Outcome {
    /// Of the finalists, whichever has the better mean over the seeds.
    pub(crate) fn of(mut finalists: Vec<(Candidate, Vec<Score>)>, num_held_out: usize, is_cut: bool) -> Option<Self> {
        let mean = |scores: &[Score]| {
            let count = scores.len().max(1) as f64;
            let sum = |figure: fn(&Score) -> f64| scores.iter().map(figure).sum::<f64>() / count;
            let reward = scores.iter().all(|score| score.reward.is_some()).then(|| sum(Score::value));
            Score {
                step: 0,
                accuracy: sum(|score| score.accuracy),
                chosen_logp: sum(|score| score.chosen_logp),
                reward,
            }
        };
        finalists.sort_by(|a, b| mean(&a.1).rank(&mean(&b.1)));
        let mut finalists = finalists.into_iter();
        let (chosen, scores) = finalists.next()?;
        Some(Self { chosen, scores, runner_up: finalists.next(), num_held_out, is_cut })
    }

    /// The lead over the runner-up; `None` without one.
    pub fn sureness(&self) -> Option<Sureness> {
        let (_, others) = self.runner_up.as_ref()?;
        let differences: Vec<f64> = self.scores.iter().zip(others).map(|(a, b)| a.value() - b.value()).collect();
        let count = differences.len().max(1) as f64;
        let difference = differences.iter().sum::<f64>() / count;
        let squares: f64 = differences.iter().map(|value| (value - difference).powi(2)).sum();
        let over_seeds = (differences.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt());
        let has_rewards = self.scores.iter().chain(others).any(|score| score.reward.is_some());
        let of_shares = (!has_rewards).then(|| {
            let all = self.scores.iter().chain(others).map(|score| score.accuracy);
            let share = all.sum::<f64>() / (self.scores.len() + others.len()).max(1) as f64;
            (2.0 * share * (1.0 - share) / self.num_held_out.max(1) as f64).max(0.0).sqrt()
        });
        let error = over_seeds.into_iter().chain(of_shares).reduce(f64::max);
        Some(Sureness { difference, error })
    }

    /// The choice in a sentence.
    pub fn verdict(&self) -> String {
        let Some(Sureness { difference, error }) = self.sureness() else {
            return "no other candidate came as far, so the choice is not compared".to_owned();
        };
        let seeds = if self.scores.len() == 1 { "1 seed".to_owned() } else { format!("{} seeds", self.scores.len()) };
        let lead = format!("its lead over the runner-up is {difference:.4}");
        match (error, self.sureness().is_some_and(|sureness| sureness.tells_apart())) {
            (None, _) => format!("{lead} by a single seed, which says nothing of its error (--seeds)"),
            (Some(error), true) => format!("{lead} ± {error:.4} over {seeds}: they are told apart"),
            (Some(error), false) => {
                format!("{lead} ± {error:.4} over {seeds}: within two standard errors, so either may be the better")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knobs::Knob;

    fn finalist(number: usize, values: &[f64], is_reward: bool) -> (Candidate, Vec<Score>) {
        let score = |value: &f64| Score {
            step: 8,
            accuracy: if is_reward { 0.5 } else { *value },
            chosen_logp: -5.0,
            reward: is_reward.then_some(*value),
        };
        let candidate = Candidate { number, values: vec![(Knob::Beta, number as f64)] };
        (candidate, values.iter().map(score).collect())
    }

    #[test]
    fn the_mean_over_seeds_decides_and_both_errors_count() {
        let finalists = vec![finalist(1, &[0.5, 0.75], false), finalist(2, &[0.75, 0.75], false)];
        let outcome = Outcome::of(finalists, 50, false).expect("a choice");
        assert_eq!(outcome.chosen.number, 2);
        let sureness = outcome.sureness().expect("a runner-up");
        assert_eq!(sureness.difference, 0.125);
        // Differences 0.25 and 0 are 0.125 from their mean; a share of 0.6875 of 50 prompts has less.
        let share = (0.5 + 0.75 + 0.75 + 0.75) / 4.0;
        let of_shares = (2.0 * share * (1.0 - share) / 50.0f64).sqrt();
        assert_eq!(sureness.error, Some(0.125f64.max(of_shares)));
        assert!(!sureness.tells_apart() && outcome.verdict().contains("either may be the better"));
    }

    #[test]
    fn rewards_need_two_seeds_for_an_error() {
        let one = Outcome::of(vec![finalist(1, &[0.5], true), finalist(2, &[0.25], true)], 50, false);
        assert_eq!(one.expect("a choice").sureness().map(|sureness| sureness.error), Some(None));
        let two = Outcome::of(vec![finalist(1, &[0.5, 0.625], true), finalist(2, &[0.25, 0.375], true)], 50, false);
        let two = two.expect("a choice");
        assert_eq!(two.sureness(), Some(Sureness { difference: 0.25, error: Some(0.0) }));
        assert!(two.verdict().contains("told apart"), "{}", two.verdict());
        assert!(Outcome::of(vec![finalist(1, &[0.5], true)], 50, false).expect("one").sureness().is_none());
    }
}
