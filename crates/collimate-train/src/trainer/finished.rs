//! A finished run that is opened again to be looked into. Its weights stay, and nothing is written into its folder.

use collimate_collective::StopFlag;
use collimate_model::{ForwardOptions, InputPlace, TokenLogps};
use collimate_objective::Needs;
use collimate_progress::Observer;
use collimate_recipe::Recipe;
use collimate_report::MetricsRow;
use collimate_session::Session;
use collimate_text::{TextTokenizer, TokenizedGroup};

use super::check::check;
use super::nonfinite::{in_evaluation, in_logps};
use super::open::{Opened, open};
use super::run::Run;
use crate::control::{RunContext, check_stop};
use crate::dataset::DataSet;
use crate::error::TrainError;
use crate::reference::{Reference, Visits};
use crate::scoring::{BatchScorer, response_logps};

/// Which groups of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Those that it was trained on.
    Training,
    /// Those that it was evaluated on.
    HeldOut,
}

/// A run with its trained model, its data and its reference.
pub struct FinishedRun<'a> {
    run: Run<'a>,
    session: Box<dyn Session>,
    reference: Option<Reference>,
    tokenizer: &'a TextTokenizer,
    stop: &'a StopFlag,
}

/// Opens the run of a recipe whose model and `adapter` are what it ended with, and passes it on. The recipe's `output_dir` is
/// that of no run.
///
/// # Errors
/// As [`train`](super::train) before its first step; or those of `work`.
pub fn with_finished<T, E: From<TrainError>>(
    recipe: &Recipe,
    stop: &StopFlag,
    observer: &mut dyn Observer,
    work: impl FnOnce(&mut FinishedRun<'_>, &mut dyn Observer) -> Result<T, E>,
) -> Result<T, E> {
    let whole = || {
        let mut context = RunContext::new(stop, observer);
        let (checked, session, _) = check(recipe, recipe, false, &mut context)?;
        let Opened { run, session, reference } = open(recipe, &checked, session, None, &mut context)?;
        session.notes().iter().for_each(|note| context.observer.note(&format!("warning: {note}")));
        let mut finished = FinishedRun { run, session, reference, tokenizer: &checked.tokenizer, stop };
        Ok(work(&mut finished, context.observer))
    };
    collimate_backend::guarded(whole).map_err(TrainError::from)??
}

impl FinishedRun<'_> {
    /// The model on its device.
    pub fn session(&mut self) -> &mut dyn Session {
        self.session.as_mut()
    }

    /// The tokenizer of the run.
    pub fn tokenizer(&self) -> &TextTokenizer {
        self.tokenizer
    }

    /// What the objective needs.
    pub fn needs(&self) -> Needs {
        self.run.objective.needs()
    }

    /// Number of groups; none held out is 0.
    pub fn len(&self, part: Part) -> usize {
        self.data(part).map_or(0, DataSet::len)
    }

    /// A group's tokens.
    ///
    /// # Errors
    /// There is none at this index, or it cannot be read.
    pub fn group(&self, part: Part, index: usize) -> Result<TokenizedGroup, TrainError> {
        let mut groups = self.data(part).map_or(Ok(Vec::new()), |data| data.select(&[index]))?;
        groups.pop().ok_or_else(nothing_held_out)
    }

    /// File and line of a group.
    ///
    /// # Errors
    /// As [`FinishedRun::group`].
    pub fn location(&self, part: Part, index: usize) -> Result<String, TrainError> {
        self.data(part).ok_or_else(nothing_held_out)?.location(index)
    }

    fn data(&self, part: Part) -> Option<&DataSet> {
        match part {
            Part::Training => Some(&self.run.training),
            Part::HeldOut => self.run.held_out.as_ref(),
        }
    }

    /// Finds the reference's log-probs of some groups, in the run's cache or by its passes, for what is asked of these groups.
    ///
    /// # Errors
    /// As [`Session::score`]; [`TrainError::Interrupted`]; the cache cannot be written.
    pub fn score_reference(
        &mut self,
        part: Part,
        indices: &[usize],
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let Self { run, session, reference: Some(reference), stop, .. } = self else { return Ok(()) };
        let data = if part == Part::Training { Some(&run.training) } else { run.held_out.as_ref() };
        let Some(data) = data else { return Ok(()) };
        let size = run.recipe.per_device_eval_batch_size.max(1);
        let scorer = &mut BatchScorer { session: session.as_mut(), budget: &run.budget, stop };
        let micro_batches = || Box::new(indices.chunks(size).map(<[usize]>::to_vec)) as Box<dyn Iterator<Item = _>>;
        let context = &mut RunContext::new(stop, observer);
        reference.logps(scorer, &Visits { data, micro_batches: &micro_batches }, context)
    }

    /// The figures of the model on all held-out groups, under the names of `metrics.jsonl` without `eval_`; without its adapter
    /// unless `adapters`.
    ///
    /// # Errors
    /// As [`Session::score`]; [`TrainError::Interrupted`]; a log-prob is not finite.
    pub fn measure(&mut self, adapters: bool, observer: &mut dyn Observer) -> Result<MetricsRow, TrainError> {
        let context = &mut RunContext::new(self.stop, observer);
        let steps = self.run.counts.total_steps;
        let figures = self.run.measure(self.session.as_mut(), adapters, steps, context)?;
        context.observer.finish();
        check_stop(self.stop)?;
        let figures = figures.ok_or_else(nothing_held_out)?;
        let mut row = figures.groups.row();
        row.set("loss", figures.mean_loss());
        Ok(row)
    }

    /// Log-probs of every response token, in nats, by group, response and token.
    ///
    /// # Errors
    /// As [`Session::score`]; [`TrainError::Interrupted`].
    pub fn score(&mut self, groups: &[TokenizedGroup], adapters: bool) -> Result<TokenLogps, TrainError> {
        check_stop(self.stop)?;
        let mut scorer = BatchScorer { session: self.session.as_mut(), budget: &self.run.budget, stop: self.stop };
        scorer.by_response(groups, adapters, None, |tokens| tokens)
    }

    /// Accumulates the gradient of the loss of one training group alone, as a step of this group would; returns the loss.
    ///
    /// # Errors
    /// As [`Session::score`]; the objective rejects the group; a figure is not finite.
    pub fn loss_gradient(&mut self, index: usize) -> Result<f64, TrainError> {
        let groups = self.run.training.select(&[index])?;
        let logps = self.score(&groups, true)?;
        let data = &self.run.training;
        let scores = data.scores(&[index], response_logps(&logps))?;
        let evaluation = match in_logps(&[index], &scores) {
            Some(culprit) => Err(culprit),
            None => data.ask(self.run.objective, &[index], &scores).map(Ok)?,
        };
        let evaluation = evaluation.and_then(|found| in_evaluation(&[index], &found).map_or(Ok(found), Err));
        let evaluation = evaluation.or_else(|culprit| {
            let (location, problem) = (data.location(index)?, culprit.describe(data)?);
            Err(TrainError::RowNotFinite { location, problem })
        })?;
        self.backward(&groups, &evaluation.coefficients)?;
        Ok(evaluation.losses.iter().sum())
    }

    /// Accumulates the gradient of `Σ c · logp` over the responses of some groups, given the c by group.
    ///
    /// # Errors
    /// As [`Session::forward`] and [`Session::backward`].
    pub fn backward(&mut self, groups: &[TokenizedGroup], coefficients: &[Vec<f64>]) -> Result<(), TrainError> {
        for pack in self.run.budget.packs(groups)? {
            check_stop(self.stop)?;
            let batch = self.run.budget.batch(groups, &pack);
            let kept_blocks = self.run.budget.kept_blocks(self.run.budget.batch_charge(&batch));
            let options = ForwardOptions { kept_blocks, dropout: None };
            self.session.forward(&[batch], options, InputPlace::Device)?;
            self.session.backward(&[pack.select(coefficients)])?;
        }
        Ok(())
    }
}

fn nothing_held_out() -> TrainError {
    TrainError::RecipeValue { key: "eval_data", message: "the run has no held-out data".to_owned() }
}
