//! One optimizer step: forward, ask the objective, backward, update.

mod passes;

use std::time::Instant;

use collimate_objective::Evaluation;
use collimate_progress::{RankShare, resident_bytes};
use collimate_report::GroupOutcome;

use super::nonfinite::{Culprit, in_evaluation, in_logps};
use super::run::{Dealing, Round, Run};
use super::self_check::self_check;
use crate::dataset::group_outcome;
use crate::error::TrainError;
use crate::packs::InputsIn;
use collimate_collective::{OwnNumbers, Ranks, SharedNumbers};
use collimate_session::Session;
use collimate_session::UpdateOptions;

/// The outcome of one step, the same on all ranks.
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
    /// What each rank did.
    pub(super) shares: Vec<RankShare>,
}

impl StepOutcome {
    /// Tokens that all ranks computed.
    pub(super) fn num_tokens(&self) -> u64 {
        self.shares.iter().map(|share| share.tokens).sum()
    }
}

/// A step in progress.
struct Step<'a> {
    run: &'a Run<'a>,
    session: &'a mut dyn Session,
    /// The step, counted from 0.
    index: usize,
    /// Indices of the step's groups.
    visits: &'a [usize],
    ranks: &'a Ranks<'a>,
    outcome: StepOutcome,
    /// What this rank did.
    own: RankShare,
    /// The coefficients c_k of the groups so far.
    coefficients: Vec<Vec<f64>>,
}

/// Takes one step, counted from 0.
///
/// A non-finite figure is no error: the parameters stay unchanged, and the outcome names the culprit.
///
/// # Errors
/// The objective rejects a group, the first step's self-check fails, or a token is not in the vocabulary. Between the packs of
/// a divided micro-batch, which may take minutes, a requested stop ends the step: [`TrainError::Interrupted`]. Several ranks
/// finish it.
pub(super) fn take_step(
    run: &Run<'_>,
    session: &mut dyn Session,
    index: usize,
    ranks: &Ranks<'_>,
) -> Result<StepOutcome, TrainError> {
    let (visits, after) = (run.visits(index), run.visits_after(index));
    let mut step = Step::new(run, session, index, &visits, ranks);
    // An objective that couples prompts must see the whole step before any coefficient is known.
    let whole = if run.objective.needs().couples_batch { step.ask_about_all()? } else { None };
    for round in run.rounds(&visits, &after, step.dealing()) {
        let round = round?;
        if step.outcome.culprit.is_some() {
            break;
        }
        let forward = step.forward(&round);
        let (forward, shared) = step.share(&round, forward)?;
        if let Some(coefficients) = step.ask_about_round(&round, shared, whole.as_ref())? {
            step.backward(&round, &forward, coefficients)?;
        }
    }
    step.update()?;
    let all = ranks.share(Ok::<_, TrainError>(step.own.to_bytes()))?;
    step.outcome.shares = all.iter().map(|bytes| RankShare::from_bytes(bytes)).collect();
    Ok(step.outcome)
}

impl<'a> Step<'a> {
    fn new(
        run: &'a Run<'a>,
        session: &'a mut dyn Session,
        index: usize,
        visits: &'a [usize],
        ranks: &'a Ranks<'a>,
    ) -> Self {
        let outcome = StepOutcome {
            loss: 0.0,
            aux_loss: None,
            grad_norm: f64::NAN,
            culprit: None,
            groups: Vec::new(),
            shares: Vec::new(),
        };
        let own = RankShare { memory: resident_bytes().unwrap_or(0), ..RankShare::default() };
        Self { run, session, index, visits, ranks, outcome, own, coefficients: Vec::new() }
    }

    /// How groups are dealt out.
    fn dealing(&self) -> Dealing {
        let whole = self.session.config().experts.is_some();
        Dealing { rank: self.ranks.rank(), ranks: self.ranks.size(), whole }
    }

    /// Scores all of the step's groups and asks the objective about them; `None` if a log-prob is not finite.
    fn ask_about_all(&mut self) -> Result<Option<Evaluation>, TrainError> {
        let run = self.run;
        let mut logps = Vec::new();
        for round in run.rounds(self.visits, self.visits, self.dealing()) {
            let round = round?;
            let begun = Instant::now();
            let mine = self.score(&round.groups).map(|items| OwnNumbers { items, beside: Vec::new() });
            self.own.seconds += begun.elapsed().as_secs_f64();
            let counts = || run.counts_of(round.indices);
            logps.extend(self.ranks.share_numbers(&round.owners, counts, mine)?.items);
        }
        let (mut logps, mut scores, mut indices) = (logps.into_iter(), Vec::new(), Vec::new());
        for visits in self.visits.chunks(run.micro_batch()) {
            let found = run.training.scores(visits, logps.by_ref().take(visits.len()).collect())?;
            if let Some(culprit) = in_logps(visits, &found) {
                self.give_up(culprit);
                return Ok(None);
            }
            indices.extend(&visits[..found.len()]);
            scores.extend(found);
        }
        run.training.ask(run.objective, &indices, &scores).map(Some)
    }

    /// Asks the objective about each micro-batch of a round; returns the coefficients of all groups, or `None` if a figure is
    /// not finite.
    fn ask_about_round(
        &mut self,
        round: &Round<'_>,
        shared: SharedNumbers,
        whole: Option<&Evaluation>,
    ) -> Result<Option<Vec<Vec<f64>>>, TrainError> {
        let size = self.run.micro_batch();
        let mut coefficients = Vec::with_capacity(round.indices.len());
        for (number, indices) in round.indices.chunks(size).enumerate() {
            let start = number * size;
            // Where there is a balance loss, the micro-batch is whole on one rank.
            let balance = shared.beside[round.owners[start]].first();
            balance.iter().for_each(|loss| self.add_balance(**loss));
            let logps = shared.items[start..start + indices.len()].to_vec();
            let times = self.run.training.times_scored();
            let part = whole.map(|whole| whole.slice((round.offset + start) / times, indices.len() / times));
            let Some(found) = self.ask(indices, logps, part)? else { return Ok(None) };
            coefficients.extend(found);
        }
        Ok(Some(coefficients))
    }

    /// Asks the objective about a micro-batch, unless it was asked about the whole step; `None` if a figure is not finite.
    fn ask(
        &mut self,
        indices: &[usize],
        logps: Vec<Vec<f64>>,
        part: Option<Evaluation>,
    ) -> Result<Option<Vec<Vec<f64>>>, TrainError> {
        let run = self.run;
        let scores = run.training.scores(indices, logps)?;
        if let Some(culprit) = in_logps(indices, &scores) {
            self.give_up(culprit);
            return Ok(None);
        }
        // The objective differentiates the mean over the groups it sees; the step needs the mean over all its groups.
        let (evaluation, factor) = match part {
            Some(part) => (part, 1.0),
            None => (run.training.ask(run.objective, indices, &scores)?, self.share_of(indices.len())),
        };
        if self.index == 0 {
            self_check(run, indices, &scores, &evaluation)?;
        }
        let num_groups = self.visits.len() / run.training.times_scored();
        self.outcome.loss += evaluation.losses.iter().sum::<f64>() / num_groups as f64;
        let outcomes = scores.into_iter().zip(evaluation.implicit_rewards.iter().cloned());
        self.outcome.groups.extend(outcomes.map(|(scores, rewards)| group_outcome(scores, rewards)));
        if let Some(culprit) = in_evaluation(indices, &evaluation) {
            self.give_up(culprit);
            return Ok(None);
        }
        let mut coefficients = run.training.by_scored(evaluation.coefficients);
        coefficients.iter_mut().flatten().for_each(|coefficient| *coefficient *= factor);
        Ok(Some(coefficients))
    }

    /// Updates the parameters, unless a figure of the step is not finite.
    fn update(&mut self) -> Result<(), TrainError> {
        let options = self.update_options(self.run.learning_rate(self.index), self.outcome.loss.is_finite());
        let stats = self.session.update(&options, self.ranks.world())?;
        self.outcome.grad_norm = stats.grad_norm;
        if !stats.applied && self.outcome.culprit.is_none() {
            self.outcome.culprit = Some(self.find_broken_gradient()?);
        }
        Ok(())
    }

    /// Records the culprit and leaves the parameters unchanged.
    fn give_up(&mut self, culprit: Culprit) {
        self.outcome.loss = f64::NAN;
        self.outcome.culprit = Some(culprit);
    }

    /// Recomputes each group's gradient on its own, on every rank, to find the first that is not finite.
    fn find_broken_gradient(&mut self) -> Result<Culprit, TrainError> {
        let coefficients = std::mem::take(&mut self.coefficients);
        for (&index, coefficients) in self.visits.iter().zip(coefficients) {
            let group = self.run.training.select(&[index])?;
            for pack in self.run.budget.packs(&group)? {
                self.forward_packs(&group, std::slice::from_ref(&pack), &InputsIn::Device)?;
                self.session.backward(&[pack.select(std::slice::from_ref(&coefficients))])?;
            }
            let options = self.update_options(0.0, false);
            let stats = self.session.update(&options, self.ranks.world())?;
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
