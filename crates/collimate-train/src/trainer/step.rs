//! One optimizer step: forward, ask the objective, backward, update.

use collimate_backend::give_back_memory;
use collimate_model::{ForwardOptions, RouterLoad};
use collimate_objective::Evaluation;
use collimate_report::GroupOutcome;
use collimate_text::TokenizedGroup;

use super::nonfinite::{Culprit, in_evaluation, in_logps};
use super::run::{MicroBatch, Run};
use super::self_check::self_check;
use crate::control::StopFlag;
use crate::dataset::group_outcome;
use crate::error::TrainError;
use crate::packs::{InputsIn, Pack, Passes, by_group};
use crate::scoring::{BatchScorer, response_logps, slice};
use collimate_session::Session;
use collimate_session::UpdateOptions;

/// The outcome of one step.
pub(super) struct StepOutcome {
    /// Mean over the step's groups, plus the weighted balance loss; NaN if there is a culprit.
    pub(super) loss: f64,
    /// The balance loss without its weight, if it is part of the loss.
    pub(super) aux_loss: Option<f64>,
    /// Global norm of the gradient before clipping.
    pub(super) grad_norm: f64,
    /// Why the parameters stayed as they were, if they did.
    pub(super) culprit: Option<Culprit>,
    pub(super) groups: Vec<GroupOutcome>,
    pub(super) num_tokens: u64,
}

/// A step in progress.
struct Step<'a> {
    run: &'a Run<'a>,
    session: &'a mut dyn Session,
    /// The step, counted from 0.
    index: usize,
    /// Indices of the step's groups.
    visits: &'a [usize],
    stop: &'a StopFlag,
    outcome: StepOutcome,
    /// The coefficients c_k of the groups so far.
    coefficients: Vec<Vec<f64>>,
}

/// The state between forward and backward pass.
struct Forward {
    passes: Passes,
    /// The policy's log-probs, by group and response, in nats.
    logps: Vec<Vec<f64>>,
    balance: Option<Balance>,
}

/// The balance loss of a micro-batch in a mixture of experts.
struct Balance {
    load: RouterLoad,
    weight: f64,
}

/// Takes one step, counted from 0.
///
/// A non-finite figure is no error: the parameters stay unchanged, and the outcome names the culprit.
///
/// # Errors
/// The objective rejects a group, the first step's self-check fails, or a token is not in the vocabulary. Between the packs of
/// a divided micro-batch, which may take minutes, a requested stop ends the step: [`TrainError::Interrupted`].
pub(super) fn take_step(
    run: &Run<'_>,
    session: &mut dyn Session,
    index: usize,
    stop: &StopFlag,
) -> Result<StepOutcome, TrainError> {
    let visits = run.visits(index);
    let mut step = Step::new(run, session, index, &visits, stop);
    // An objective that couples prompts must see the whole step before any coefficient is known.
    let whole = if run.objective.needs().couples_batch { step.ask_about_all()? } else { None };
    for micro_batch in run.micro_batches(&visits) {
        let micro_batch = micro_batch?;
        if step.outcome.culprit.is_some() {
            break;
        }
        let forward = step.forward(&micro_batch)?;
        if let Some(coefficients) = step.ask(&micro_batch, &forward.logps, whole.as_ref())? {
            step.backward(&micro_batch, &forward, coefficients)?;
        }
    }
    step.update()?;
    Ok(step.outcome)
}

impl<'a> Step<'a> {
    fn new(
        run: &'a Run<'a>,
        session: &'a mut dyn Session,
        index: usize,
        visits: &'a [usize],
        stop: &'a StopFlag,
    ) -> Self {
        let outcome = StepOutcome {
            loss: 0.0,
            aux_loss: None,
            grad_norm: f64::NAN,
            culprit: None,
            groups: Vec::new(),
            num_tokens: 0,
        };
        Self { run, session, index, visits, stop, outcome, coefficients: Vec::new() }
    }

    /// Scores all of the step's groups and asks the objective about them; `None` if a log-prob is not finite.
    fn ask_about_all(&mut self) -> Result<Option<Evaluation>, TrainError> {
        let run = self.run;
        let mut logps = Vec::new();
        for micro_batch in run.micro_batches(self.visits) {
            logps.extend(self.score(&micro_batch?.groups)?);
        }
        let scores = run.training.scores(self.visits, logps)?;
        if let Some(culprit) = in_logps(self.visits, &scores) {
            self.give_up(culprit);
            return Ok(None);
        }
        run.training.ask(run.objective, self.visits, &scores).map(Some)
    }

    /// The policy's log-probs of a micro-batch. If its packs go together, the forward pass is kept for backward; otherwise only the log-probs are kept, and each pack's forward pass is repeated.
    fn forward(&mut self, micro_batch: &MicroBatch<'_>) -> Result<Forward, TrainError> {
        let groups = &micro_batch.groups;
        let passes = self.run.passes(groups)?;
        // Discards the load of earlier passes in this step.
        self.session.take_router_load();
        let logps = match &passes.together {
            Some(inputs) => self.forward_packs(groups, &passes.packs, inputs)?,
            None => {
                let logps = self.score(groups)?;
                give_back_memory();
                logps
            }
        };
        // By now every token has been routed exactly once, so the load that the balance loss divides by is complete.
        let balance = self.balance(self.share(micro_batch));
        Ok(Forward { passes, logps, balance })
    }

    /// Asks the objective about a micro-batch, or takes its part of `whole`; `None` if a figure is not finite.
    fn ask(
        &mut self,
        micro_batch: &MicroBatch<'_>,
        logps: &[Vec<f64>],
        whole: Option<&Evaluation>,
    ) -> Result<Option<Vec<Vec<f64>>>, TrainError> {
        let (run, indices) = (self.run, micro_batch.indices);
        let scores = run.training.scores(indices, logps.to_vec())?;
        if let Some(culprit) = in_logps(indices, &scores) {
            self.give_up(culprit);
            return Ok(None);
        }
        // The objective differentiates the mean over the groups it sees; the step needs the mean over all its groups.
        let (evaluation, factor) = match whole {
            Some(whole) => (slice(whole, micro_batch.offset, indices.len()), 1.0),
            None => (run.training.ask(run.objective, indices, &scores)?, self.share(micro_batch)),
        };
        if self.index == 0 {
            self_check(run, indices, &scores, &evaluation)?;
        }
        self.outcome.loss += evaluation.losses.iter().sum::<f64>() / self.visits.len() as f64;
        let outcomes = scores.into_iter().zip(evaluation.implicit_rewards.iter().cloned());
        self.outcome.groups.extend(outcomes.map(|(scores, rewards)| group_outcome(scores, rewards)));
        if let Some(culprit) = in_evaluation(indices, &evaluation) {
            self.give_up(culprit);
            return Ok(None);
        }
        let mut coefficients = evaluation.coefficients;
        coefficients.iter_mut().flatten().for_each(|coefficient| *coefficient *= factor);
        Ok(Some(coefficients))
    }

    /// Adds a micro-batch's gradients, pack by pack.
    fn backward(
        &mut self,
        micro_batch: &MicroBatch<'_>,
        forward: &Forward,
        coefficients: Vec<Vec<f64>>,
    ) -> Result<(), TrainError> {
        let (groups, packs) = (&micro_batch.groups, &forward.passes.packs);
        let together = forward.passes.together.is_some();
        for packs in packs.chunks(if together { packs.len().max(1) } else { 1 }) {
            if !together {
                self.stop.check()?;
                self.forward_packs(groups, packs, &InputsIn::Device)?;
            }
            let tokens = |pack| self.run.budget.batch(groups, pack).num_tokens() as u64;
            self.outcome.num_tokens += packs.iter().map(tokens).sum::<u64>();
            if let Some(Balance { load, weight }) = &forward.balance {
                self.session.balance(load, *weight);
            }
            self.session.backward(&packs.iter().map(|pack| pack.select(&coefficients)).collect::<Vec<_>>())?;
            if !together || packs.len() > 1 {
                give_back_memory();
            }
        }
        self.coefficients.extend(coefficients);
        Ok(())
    }

    /// Updates the parameters, unless a figure of the step is not finite.
    fn update(&mut self) -> Result<(), TrainError> {
        let options = self.update_options(self.run.learning_rate(self.index), self.outcome.loss.is_finite());
        let stats = self.session.update(&options);
        self.outcome.grad_norm = stats.grad_norm;
        if !stats.applied && self.outcome.culprit.is_none() {
            self.outcome.culprit = Some(self.find_broken_gradient()?);
        }
        Ok(())
    }

    /// A training forward pass over packs, which keeps as many activations as memory allows; log-probs by group and response.
    fn forward_packs(
        &mut self,
        groups: &[TokenizedGroup],
        packs: &[Pack],
        inputs: &InputsIn,
    ) -> Result<Vec<Vec<f64>>, TrainError> {
        let batches: Vec<_> = packs.iter().map(|pack| self.run.budget.batch(groups, pack)).collect();
        let kept_blocks = match batches.as_slice() {
            [batch] => self.run.budget.kept_blocks(batch.num_tokens()),
            _ => 0,
        };
        let options = ForwardOptions { kept_blocks, dropout: self.run.dropout(self.index) };
        let logps = self.session.forward(&batches, options, inputs.open(self.stop)?)?;
        Ok(by_group(packs, logps.iter().map(response_logps), groups.len()))
    }

    /// Log-probs of a training forward pass whose activations are discarded.
    fn score(&mut self, groups: &[TokenizedGroup]) -> Result<Vec<Vec<f64>>, TrainError> {
        let mut scorer = BatchScorer { session: &mut *self.session, budget: &self.run.budget, stop: self.stop };
        scorer.score(groups, true, self.run.dropout(self.index))
    }

    /// Adds the balance loss of the micro-batch just routed; `share` is its fraction of the step's groups.
    fn balance(&mut self, share: f64) -> Option<Balance> {
        let load = self.session.take_router_load()?;
        let experts = self.session.config().experts?;
        let weight = self.run.recipe.router_aux_loss_coef.weight(experts.balance_weight, experts.balances_by_default);
        if weight == 0.0 {
            return None;
        }
        let loss = share * load.loss();
        self.outcome.loss += weight * loss;
        *self.outcome.aux_loss.get_or_insert(0.0) += loss;
        Some(Balance { load, weight: weight * share })
    }

    /// A micro-batch's fraction of the step's groups.
    fn share(&self, micro_batch: &MicroBatch<'_>) -> f64 {
        micro_batch.groups.len() as f64 / self.visits.len() as f64
    }

    /// Records the culprit and leaves the parameters unchanged.
    fn give_up(&mut self, culprit: Culprit) {
        self.outcome.loss = f64::NAN;
        self.outcome.culprit = Some(culprit);
    }

    /// Recomputes each group's gradient on its own to find the first that is not finite.
    fn find_broken_gradient(&mut self) -> Result<Culprit, TrainError> {
        let coefficients = std::mem::take(&mut self.coefficients);
        for (&index, coefficients) in self.visits.iter().zip(coefficients) {
            let group = self.run.training.select(&[index])?;
            for pack in self.run.budget.packs(&group)? {
                self.forward_packs(&group, std::slice::from_ref(&pack), &InputsIn::Device)?;
                self.session.backward(&[pack.select(std::slice::from_ref(&coefficients))])?;
            }
            let options = self.update_options(0.0, false);
            let stats = self.session.update(&options);
            // The next step must not see the load of these passes.
            self.session.take_router_load();
            if !stats.grad_norm.is_finite() {
                return Ok(Culprit { group: Some(index), figure: "the gradient".to_owned() });
            }
        }
        Ok(Culprit { group: None, figure: "the sum of the prompts' gradients".to_owned() })
    }

    fn update_options(&self, learning_rate: f64, apply: bool) -> UpdateOptions {
        let recipe = self.run.recipe;
        UpdateOptions {
            learning_rate,
            max_grad_norm: recipe.max_grad_norm,
            beta1: recipe.adam_beta1,
            beta2: recipe.adam_beta2,
            epsilon: recipe.adam_epsilon,
            weight_decay: recipe.weight_decay,
            decay_norms: recipe.decay_norms,
            apply,
        }
    }
}
