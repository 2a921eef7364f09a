//! Fills in the reference's log-probs: of everything before the first step, or of what the next step or evaluation needs.

use std::time::Duration;

use super::run::Run;
use crate::control::RunContext;
use crate::error::TrainError;
use crate::reference::{Reference, Visits, Waiting};
use crate::scoring::BatchScorer;
use collimate_session::Session;

impl Run<'_> {
    /// Begins with a run's reference after `finished_steps` steps: scores it, or returns what scores it as the run goes on. The
    /// policy must be in its initial state.
    ///
    /// # Errors
    /// As [`Session::score`]; a stop was requested; data or cache cannot be read.
    pub(super) fn begin_reference(
        &self,
        mut reference: Reference,
        finished_steps: usize,
        session: &mut dyn Session,
        context: &mut RunContext<'_>,
    ) -> Result<Option<Waiting<'_>>, TrainError> {
        reference.notes().iter().for_each(|note| context.observer.note(note));
        if !reference.can_wait() {
            self.score_reference(&mut reference, session, context)?;
            return Ok(None);
        }
        let micro_batches = Box::new(self.first_visits(finished_steps));
        Waiting::begin(reference, &self.training, micro_batches, context).map(Some)
    }

    /// Fills in the reference's log-probs of every group that the run will visit, and of all held-out groups.
    pub(super) fn score_reference(
        &self,
        reference: &mut Reference,
        session: &mut dyn Session,
        context: &mut RunContext<'_>,
    ) -> Result<(), TrainError> {
        let stop = context.ranks.stop_alone().clone();
        let scorer = &mut BatchScorer { session, budget: &self.budget, stop: &stop };
        let visits = Visits { data: &self.training, micro_batches: &|| Box::new(self.first_visits(0)) };
        reference.logps(scorer, &visits, context)?;
        self.of_held_out(|visits| reference.logps(scorer, visits, context))
    }

    /// Fills in the log-probs of the groups that a step visits; returns how long it took.
    ///
    /// # Errors
    /// As [`Session::score`]; [`TrainError::Interrupted`].
    pub(super) fn score_before_step(
        &self,
        reference: &mut Waiting<'_>,
        step: usize,
        session: &mut dyn Session,
        context: &mut RunContext<'_>,
    ) -> Result<Duration, TrainError> {
        let stop = context.ranks.stop_alone().clone();
        let scorer = &mut BatchScorer { session, budget: &self.budget, stop: &stop };
        reference.before_step(&self.visits(step), scorer, context)
    }

    /// Fills in the log-probs of all held-out groups, if they are not known.
    ///
    /// # Errors
    /// As [`Session::score`]; [`TrainError::Interrupted`].
    pub(super) fn score_before_evaluation(
        &self,
        reference: &mut Waiting<'_>,
        session: &mut dyn Session,
        context: &mut RunContext<'_>,
    ) -> Result<(), TrainError> {
        if self.held_out.as_ref().is_some_and(|data| data.reference().is_some()) {
            return Ok(());
        }
        let stop = context.ranks.stop_alone().clone();
        let scorer = &mut BatchScorer { session, budget: &self.budget, stop: &stop };
        self.of_held_out(|visits| reference.of_all(visits, scorer, context))
    }

    /// Passes on the micro-batches of an evaluation, if there is held-out data.
    fn of_held_out(&self, score: impl FnOnce(&Visits<'_>) -> Result<(), TrainError>) -> Result<(), TrainError> {
        let Some(held_out) = &self.held_out else { return Ok(()) };
        let micro_batches = || self.eval_batches(held_out.len()).map(|batch| held_out.scored(&batch));
        score(&Visits { data: held_out, micro_batches: &|| Box::new(micro_batches()) })
    }

    /// The number of finished steps up to which a step may visit a group for the first time since `finished_steps`.
    pub(super) fn steps_of_first_visits(&self, finished_steps: usize) -> usize {
        self.counts.total_steps.min(finished_steps.saturating_add(self.counts.steps_per_epoch))
    }

    /// The micro-batches, in order, that visit some group for the first time since `finished_steps` steps.
    ///
    /// Scored in the micro-batches of training, so that the reference's numbers equal the policy's bit for bit.
    fn first_visits(&self, finished_steps: usize) -> impl Iterator<Item = Vec<usize>> + '_ {
        let (mut seen, mut num_unseen) = (vec![false; self.training.len()], self.training.len());
        let size = self.micro_batch();
        // Every epoch has pairs of its own.
        let has_pairs = self.training.times_scored() > 1;
        // Without shuffling, every epoch visits the same groups; which of them are masked differs.
        let end =
            if self.recipe.shuffle || has_pairs { usize::MAX } else { self.steps_of_first_visits(finished_steps) };
        let mut steps = finished_steps..self.counts.total_steps.min(end);
        let mut step = Vec::<Vec<usize>>::new().into_iter();
        std::iter::from_fn(move || {
            loop {
                for indices in step.by_ref() {
                    if has_pairs {
                        return Some(indices);
                    }
                    let is_new = |index: &&usize| !std::mem::replace(&mut seen[**index], true);
                    let num_new = indices.iter().filter(is_new).count();
                    num_unseen -= num_new;
                    if num_new > 0 {
                        return Some(indices);
                    }
                }
                let visits = self.visits(steps.next().filter(|_| num_unseen > 0)?);
                step = visits.chunks(size).map(<[usize]>::to_vec).collect::<Vec<_>>().into_iter();
            }
        })
    }
}
