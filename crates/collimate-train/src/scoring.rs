//! Scores whole micro-batches without keeping anything for a backward pass.

use collimate_model::{DropoutKey, TokenLogps};
use collimate_objective::Evaluation;
use collimate_text::TokenizedGroup;

use crate::control::StopFlag;
use crate::error::TrainError;
use crate::packs::{PassBudget, by_group};
use collimate_session::Session;

/// A model and the memory its passes may use.
pub(crate) struct BatchScorer<'a> {
    pub(crate) session: &'a mut dyn Session,
    pub(crate) budget: &'a PassBudget,
    /// Checked between packs: a prompt with thousands of responses has many, each of which may take seconds.
    pub(crate) stop: &'a StopFlag,
}

impl BatchScorer<'_> {
    /// Log-probs of every response, by group and response, in nats. `adapters` and `dropout` are those of
    /// [`Session::score`].
    ///
    /// # Errors
    /// As [`Session::score`]; [`TrainError::Interrupted`] if a stop is requested between two packs.
    pub(crate) fn score(
        &mut self,
        groups: &[TokenizedGroup],
        adapters: bool,
        dropout: Option<DropoutKey>,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        // The packs of a training step, so that policy and reference agree to the bit where bits depend on the pack.
        let packs = self.budget.step_packs(groups)?.0;
        let mut logps = Vec::with_capacity(packs.len());
        for (number, pack) in packs.iter().enumerate() {
            if number > 0 {
                self.stop.check()?;
            }
            let tokens = self.session.score(&self.budget.batch(groups, pack), adapters, dropout)?;
            logps.push(response_logps(&tokens));
        }
        Ok(by_group(&packs, logps, groups.len()))
    }
}

/// Sums the log-probs of each response's tokens, in nats.
pub(crate) fn response_logps(tokens: &TokenLogps) -> Vec<Vec<f64>> {
    tokens.iter().map(|group| group.iter().map(|response| response.iter().sum()).collect()).collect()
}

/// The groups `start..start + len` of a whole step's evaluation.
pub(crate) fn slice(whole: &Evaluation, start: usize, len: usize) -> Evaluation {
    let range = start..start + len;
    Evaluation {
        losses: whole.losses[range.clone()].to_vec(),
        implicit_rewards: whole.implicit_rewards[range.clone()].to_vec(),
        coefficients: whole.coefficients[range].to_vec(),
    }
}
