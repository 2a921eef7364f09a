//! Evaluates held-out groups without changing the model.

use collimate_objective::{EvaluatedGroup, StreamedEvaluation};
use collimate_report::metrics::evaluation_row;
use collimate_report::{GroupFigures, LengthSample, LengthSampler, MetricsRow};
use collimate_text::TokenizedGroup;

use super::nonfinite::in_logps;
use super::run::Run;
use crate::control::RunContext;
use crate::dataset::group_outcome;
use crate::error::TrainError;
use crate::scoring::{BatchScorer, score_dealt};
use collimate_checkpoint::TrainerState;
use collimate_session::Session;

/// What is kept of the groups that were evaluated: a few numbers, however many there are.
pub(super) struct Figures {
    pub(super) groups: GroupFigures,
    lengths: LengthSampler,
    loss_sum: f64,
    num_groups: usize,
}

impl Figures {
    fn add(&mut self, evaluated: Vec<EvaluatedGroup>) {
        for EvaluatedGroup { scores, loss, implicit_rewards } in evaluated {
            let outcome = group_outcome(scores, implicit_rewards);
            self.groups.add(&outcome);
            self.lengths.add(&outcome);
            self.loss_sum += loss;
            self.num_groups += 1;
        }
    }

    pub(super) fn mean_loss(&self) -> f64 {
        self.loss_sum / self.num_groups as f64
    }
}

impl Run<'_> {
    /// Evaluates the current policy; returns the row of `eval_` figures. `None` without held-out data, or if a stop was
    /// requested meanwhile.
    pub(super) fn evaluate(
        &self,
        session: &mut dyn Session,
        state: &TrainerState,
        context: &mut RunContext<'_>,
    ) -> Result<Option<MetricsRow>, TrainError> {
        let Some(figures) = self.measure(session, true, state.global_step, context)? else { return Ok(None) };
        let row = evaluation_row(state.global_step, state.epoch, figures.mean_loss(), &figures.groups);
        // Written before the row is recorded: a resumed run skips an evaluation that has a row.
        let lengths = figures.lengths.finish();
        if context.ranks.is_first() {
            lengths.write(&self.recipe.output_dir)?;
        }
        context.observer.step(&row);
        context.observer.finish();
        Ok(Some(row))
    }

    /// The figures of the model after `step` steps on all held-out groups, without its adapter unless `adapters`; as
    /// [`Run::evaluate`], but nothing is written, and the stage goes on.
    pub(super) fn measure(
        &self,
        session: &mut dyn Session,
        adapters: bool,
        step: usize,
        context: &mut RunContext<'_>,
    ) -> Result<Option<Figures>, TrainError> {
        let Some(held_out) = &self.held_out else { return Ok(None) };
        context.observer.stage("evaluation", Some(held_out.len() as u64));
        let ranks = context.ranks.clone();
        let mut scorer = BatchScorer { session, budget: &self.budget, stop: ranks.stop_alone() };
        let score = &mut |groups: &[TokenizedGroup]| scorer.score(groups, adapters, None);
        let mut evaluation = StreamedEvaluation::new(self.objective);
        let rejected = |error| held_out.at_group(error, |index| index);
        let mut figures = Figures {
            groups: GroupFigures::new(self.recipe.objective.alpha()),
            lengths: LengthSample::of_evaluation(step, held_out.totals().num_responses),
            loss_sum: 0.0,
            num_groups: 0,
        };
        let size = self.recipe.per_device_eval_batch_size.max(1);
        let at_once = size.saturating_mul(ranks.at_once());
        for start in (0..held_out.len()).step_by(at_once) {
            let num_groups = held_out.len().min(start.saturating_add(at_once)) - start;
            let batches = self.eval_batches(held_out.len()).skip(start / size).take(num_groups.div_ceil(size));
            let micro_batches: Vec<Vec<usize>> = batches.map(|batch| held_out.scored(&batch)).collect();
            let scored: Vec<&[usize]> = micro_batches.iter().map(Vec::as_slice).collect();
            let logps = match score_dealt(&ranks, held_out, &scored, score) {
                Err(TrainError::Interrupted { .. }) => {
                    context.observer.finish();
                    return Ok(None);
                }
                logps => logps?,
            };
            for (indices, logps) in scored.iter().zip(logps) {
                let scores = held_out.scores(indices, logps)?;
                if let Some(culprit) = in_logps(indices, &scores) {
                    let (location, problem) = ("evaluation".to_owned(), culprit.describe(held_out)?);
                    return Err(TrainError::RowNotFinite { location, problem });
                }
                for scores in scores {
                    figures.add(evaluation.add(scores).map_err(rejected)?);
                }
            }
            context.observer.advance(num_groups as u64);
            if context.stop.requested().is_some() {
                context.observer.finish();
                return Ok(None);
            }
        }
        figures.add(evaluation.finish().map_err(rejected)?);
        Ok(Some(figures))
    }
}
