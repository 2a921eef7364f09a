//! Held-out problems solved, and changes of likelihoods.

use std::path::Path;

use anyhow::Result;
use collimate_quickstart::measure::solve;
use collimate_quickstart::verifier::{is_correct, score};
use collimate_report::MetricsRow;
use collimate_train::{SessionOptions, open_session};
use serde::{Deserialize, Serialize};

use super::data::held_out;
use super::{HeldOutPart, NUM_SAMPLED, TaskSize, tokenizer};
use crate::stats::pass_at;

/// Seed of the sampled solutions.
const SEED: u64 = 7;

/// The figures of a run; shares are in [0, 1].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Share solved by greedy decoding.
    pub greedy: f64,
    /// Share of right samples: pass@1 at temperature 1.
    pub sampled: f64,
    /// Unbiased pass@8 at temperature 1.
    pub pass_at_8: f64,
    /// Mean reward of the sampled solutions.
    pub reward: f64,
    /// Change of the best response's log-prob from the first step to the last, on held-out groups, in nats.
    pub chosen_change: f64,
    /// The same for the mean of the other responses.
    pub rejected_change: f64,
    /// Wall-clock time of training.
    pub train_seconds: f64,
}

impl Outcome {
    /// The score that learning rates are chosen by; greedy and sampled accuracy count equally.
    pub fn score(&self) -> f64 {
        (self.greedy + self.sampled) / 2.0
    }

    /// Sets the changes from the first and the last evaluation.
    pub(super) fn note_likelihoods(&mut self, evaluations: &[MetricsRow]) {
        let [first, .., last] = evaluations else { return };
        let change = |name: &str| match (first.get(name), last.get(name)) {
            (Some(first), Some(last)) => last - first,
            _ => 0.0,
        };
        self.chosen_change = change("eval_logps/chosen");
        self.rejected_change = change("eval_logps/rejected");
    }
}

/// Solves the problems of a part once greedily and eight times at temperature 1.
///
/// # Errors
/// The model cannot be opened.
pub(super) fn solve_part(model: &Path, size: &TaskSize, part: HeldOutPart) -> Result<Outcome> {
    let problems = match part {
        HeldOutPart::Validation => held_out(0, size.num_validation),
        HeldOutPart::Test => held_out(size.num_validation, size.num_test),
    };
    let mut session = open_session(&SessionOptions::inference(model, None))?;
    let tokenizer = tokenizer(model)?;
    let greedy = solve(session.as_mut(), &tokenizer, &problems, 1, None, &mut |_| {})?;
    let sampled = solve(session.as_mut(), &tokenizer, &problems, NUM_SAMPLED, Some(SEED), &mut |_| {})?;
    let count = problems.len() as f64;
    let mut outcome = Outcome::default();
    for ((problem, greedy), sampled) in problems.iter().zip(&greedy).zip(&sampled) {
        let right = sampled.iter().filter(|text| is_correct(problem, text)).count();
        let is_right = greedy.iter().any(|text| is_correct(problem, text));
        outcome.greedy += f64::from(u8::from(is_right)) / count;
        outcome.sampled += right as f64 / NUM_SAMPLED as f64 / count;
        outcome.pass_at_8 += pass_at(8, NUM_SAMPLED, right) / count;
        outcome.reward += sampled.iter().map(|text| score(problem, text)).sum::<f64>() / NUM_SAMPLED as f64 / count;
    }
    Ok(outcome)
}
