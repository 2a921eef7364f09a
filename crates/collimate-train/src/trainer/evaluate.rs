//! Evaluates held-out groups without changing the model.

use collimate_report::metrics::evaluation_row;
use collimate_report::{LengthSample, MetricsRow};

use super::nonfinite::in_logps;
use super::run::Run;
use crate::control::RunContext;
use crate::dataset::group_outcomes;
use crate::error::TrainError;
use crate::scoring::BatchScorer;
use crate::session::Session;
use collimate_checkpoint::TrainerState;

impl Run<'_> {
    /// Evaluates the current policy; returns the row of `eval_` figures. `None` without held-out data, or if a stop was
    /// requested meanwhile.
    pub(super) fn evaluate(
        &self,
        session: &mut dyn Session,
        state: &TrainerState,
        context: &mut RunContext<'_>,
    ) -> Result<Option<MetricsRow>, TrainError> {
        let Some(held_out) = &self.held_out else { return Ok(None) };
        let indices: Vec<usize> = (0..held_out.len()).collect();
        context.observer.stage("evaluation", Some(indices.len() as u64));
        let mut scorer = BatchScorer { session, budget: &self.budget };
        let mut logps = Vec::with_capacity(indices.len());
        for micro_batch in indices.chunks(self.recipe.per_device_eval_batch_size.max(1)) {
            logps.extend(scorer.score(&held_out.select(micro_batch)?, true, None)?);
            context.observer.advance(micro_batch.len() as u64);
            if context.stop.requested().is_some() {
                context.observer.finish();
                return Ok(None);
            }
        }
        let scores = held_out.scores(&indices, logps)?;
        if let Some(culprit) = in_logps(&indices, &scores) {
            let (location, problem) = ("evaluation".to_owned(), culprit.describe(held_out)?);
            return Err(TrainError::RowNotFinite { location, problem });
        }
        let evaluation = held_out.ask(self.objective, &indices, &scores)?;
        let outcomes = group_outcomes(scores, &evaluation.implicit_rewards);
        // Written before the row is recorded: a resumed run skips an evaluation that has a row.
        LengthSample::from_evaluation(state.global_step, &outcomes).write(&self.recipe.output_dir)?;
        let alpha = self.recipe.objective.alpha();
        let row = evaluation_row(state.global_step, state.epoch, evaluation.mean_loss(), &outcomes, alpha);
        context.observer.step(&row);
        context.observer.finish();
        Ok(Some(row))
    }
}
