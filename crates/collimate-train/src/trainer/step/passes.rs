//! The passes of a step over this rank's groups, and what the ranks share of them.

use std::time::Instant;

use collimate_collective::{CollectiveError, OwnNumbers, SharedNumbers};
use collimate_machine::give_back_memory;
use collimate_model::{ForwardOptions, RouterLoad};
use collimate_text::TokenizedGroup;

use super::Step;
use crate::control::check_stop;
use crate::error::TrainError;
use crate::packs::{InputsIn, Pack, Passes, by_group};
use crate::scoring::{BatchScorer, response_logps};
use crate::trainer::run::Round;

/// The state between forward and backward pass.
pub(super) struct Forward {
    passes: Passes,
    /// The policy's log-probs, by group and response, in nats.
    logps: Vec<Vec<f64>>,
    balance: Option<Balance>,
}

/// The balance loss of a micro-batch in a mixture of experts.
struct Balance {
    load: RouterLoad,
    weight: f64,
    /// Its share of the step's loss, without the weight.
    loss: f64,
}

impl Step<'_> {
    /// The policy's log-probs of this rank's groups. If their packs go together, the forward pass is kept for backward; otherwise only the log-probs are kept, and each pack's forward pass is repeated.
    pub(super) fn forward(&mut self, round: &Round<'_>) -> Result<Forward, TrainError> {
        let (begun, groups) = (Instant::now(), &round.groups);
        let passes = self.run.passes(groups)?;
        // Discards the load of earlier passes in this step.
        self.session.take_router_load();
        let logps = match &passes.together {
            _ if groups.is_empty() => Vec::new(),
            Some(inputs) => self.forward_packs(groups, &passes.packs, inputs)?,
            None => {
                let logps = self.score(groups)?;
                give_back_memory();
                logps
            }
        };
        // By now every token has been routed exactly once, so the load that the balance loss divides by is complete.
        let balance = self.balance(self.share_of(groups.len()));
        self.own.seconds += begun.elapsed().as_secs_f64();
        Ok(Forward { passes, logps, balance })
    }

    /// Shares the log-probs of a round, and beside them the balance losses.
    pub(super) fn share(
        &self,
        round: &Round<'_>,
        forward: Result<Forward, TrainError>,
    ) -> Result<(Forward, SharedNumbers), TrainError> {
        let (forward, mine) = match forward {
            Ok(forward) => {
                let beside = forward.balance.iter().map(|balance| balance.loss).collect();
                let mine = OwnNumbers { items: forward.logps.clone(), beside };
                (Some(forward), Ok(mine))
            }
            Err(error) => (None, Err(error)),
        };
        let counts = || self.run.counts_of(round.indices);
        let shared = self.ranks.share_numbers(&round.owners, counts, mine)?;
        Ok((forward.ok_or(TrainError::Ranks(CollectiveError::Closed))?, shared))
    }

    /// Adds the gradients of this rank's groups, pack by pack.
    pub(super) fn backward(
        &mut self,
        round: &Round<'_>,
        forward: &Forward,
        coefficients: Vec<Vec<f64>>,
    ) -> Result<(), TrainError> {
        let begun = Instant::now();
        let (groups, packs) = (&round.groups, &forward.passes.packs);
        let own = coefficients.iter().zip(&round.owners).filter(|(_, owner)| **owner == self.ranks.rank());
        let own: Vec<Vec<f64>> = own.map(|(coefficients, _)| coefficients.clone()).collect();
        let together = forward.passes.together.is_some();
        for packs in packs.chunks(if together { packs.len().max(1) } else { 1 }) {
            if !together {
                check_stop(self.ranks.stop_alone())?;
                self.forward_packs(groups, packs, &InputsIn::Device)?;
            }
            let tokens = |pack| self.run.budget.batch(groups, pack).num_tokens() as u64;
            self.own.tokens += packs.iter().map(tokens).sum::<u64>();
            if let Some(Balance { load, weight, .. }) = &forward.balance {
                self.session.balance(load, *weight);
            }
            self.session.backward(&packs.iter().map(|pack| pack.select(&own)).collect::<Vec<_>>())?;
            if !together || packs.len() > 1 {
                give_back_memory();
            }
        }
        self.coefficients.extend(coefficients);
        self.own.seconds += begun.elapsed().as_secs_f64();
        Ok(())
    }

    /// A training forward pass over packs, which keeps as many activations as memory allows; log-probs by group and response.
    pub(super) fn forward_packs(
        &mut self,
        groups: &[TokenizedGroup],
        packs: &[Pack],
        inputs: &InputsIn,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        let batches: Vec<_> = packs.iter().map(|pack| self.run.budget.batch(groups, pack)).collect();
        let kept_blocks = match batches.as_slice() {
            [batch] => self.run.budget.kept_blocks(self.run.budget.batch_charge(batch)),
            _ => 0,
        };
        let options = ForwardOptions { kept_blocks, dropout: self.run.dropout(self.index) };
        let logps = self.session.forward(&batches, options, inputs.open(self.ranks.stop_alone())?)?;
        Ok(by_group(packs, logps.iter().map(response_logps), groups.len()))
    }

    /// Log-probs of a training forward pass whose activations are discarded.
    pub(super) fn score(&mut self, groups: &[TokenizedGroup]) -> Result<Vec<Vec<f64>>, TrainError> {
        let stop = self.ranks.stop_alone();
        let mut scorer = BatchScorer { session: &mut *self.session, budget: &self.run.budget, stop };
        scorer.score(groups, true, self.run.dropout(self.index))
    }

    /// The balance loss of the micro-batch just routed; `share` is its fraction of the step's groups.
    fn balance(&mut self, share: f64) -> Option<Balance> {
        let load = self.session.take_router_load()?;
        let weight = self.balance_weight().filter(|weight| *weight != 0.0)?;
        Some(Balance { loss: share * load.loss(), load, weight: weight * share })
    }

    fn balance_weight(&self) -> Option<f64> {
        let experts = self.session.config().experts?;
        Some(self.run.recipe.router_aux_loss_coef.weight(experts.balance_weight, experts.balances_by_default))
    }

    /// Adds a micro-batch's balance loss.
    pub(super) fn add_balance(&mut self, loss: f64) {
        self.outcome.loss += self.balance_weight().unwrap_or(0.0) * loss;
        *self.outcome.aux_loss.get_or_insert(0.0) += loss;
    }

    /// The fraction of the step's groups that so many are.
    pub(super) fn share_of(&self, groups: usize) -> f64 {
        groups as f64 / self.visits.len() as f64
    }
}
