//! The loop over all steps, from the first one or a checkpoint to the last.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use collimate_progress::{Agenda, Pace, resident_bytes};
use collimate_recipe::OnNonfinite;
use collimate_report::trackers::TrackedRun;
use collimate_report::{LivePage, MetricsRow, StepMetrics};

use super::page::describe;
use super::record::{Record, RowHistory, write_recipe};
use super::resume::recipe_fingerprint;
use super::run::Run;
use super::step::take_step;
use crate::control::RunContext;
use crate::error::TrainError;
use crate::reference::{Origins, Waiting};
use collimate_checkpoint::{Checkpoint, TrainerState};
use collimate_session::Session;

/// What a run's first step needs to know of what came before it.
pub(super) struct Start<'a> {
    /// Where an earlier process got to.
    pub(super) checkpoint: Option<Checkpoint>,
    /// What it trains and compares with.
    pub(super) origins: Origins,
    /// What it compares with, unless all of that is known.
    pub(super) reference: Option<Waiting<'a>>,
    /// When the process began with the run.
    pub(super) begun: Instant,
    /// How long the sample answers took.
    pub(super) samples: Duration,
}

/// A run between two steps: the model, the state, and the records so far.
struct Steps<'a> {
    run: &'a Run<'a>,
    session: &'a mut dyn Session,
    reference: Option<Waiting<'a>>,
    state: TrainerState,
    record: Record,
    pace: Pace,
    page: LivePage,
}

/// A run after its last step.
pub(super) struct Finished {
    pub(super) state: TrainerState,
    pub(super) history: RowHistory,
    pub(super) page: LivePage,
    /// What went wrong with the training, if anything did.
    pub(super) verdict: Option<String>,
}

/// Takes all remaining steps, with their evaluations and checkpoints, and keeps the run's page up to date.
///
/// # Errors
/// A step fails, a file cannot be written, a figure is not finite and the recipe says to stop, or a stop was requested.
pub(super) fn take_all_steps<'a>(
    run: &'a Run<'a>,
    session: &'a mut dyn Session,
    start: Start<'a>,
    context: &mut RunContext<'_>,
) -> Result<Finished, TrainError> {
    let mut steps = Steps::begin(run, session, start, context)?;
    let taken = steps.take_all(context);
    if taken.is_err() {
        // The page of a run that stops here says how far it came.
        steps.page.refresh().iter().for_each(|warning| context.observer.note(warning));
    }
    taken?;
    let Steps { state, record, page, .. } = steps;
    let verdict = record.history.judge.verdict(&page.facts(&record.recipe_yaml));
    Ok(Finished { state, history: record.history, page, verdict: verdict.map(|verdict| verdict.to_string()) })
}

impl<'a> Steps<'a> {
    /// Restores the state of a checkpoint, or begins at step zero.
    fn begin(
        run: &'a Run<'a>,
        session: &'a mut dyn Session,
        start: Start<'a>,
        context: &mut RunContext<'_>,
    ) -> Result<Self, TrainError> {
        let finished_steps = start.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.state.global_step);
        let waits = start.reference.is_some();
        let references = if waits { run.steps_of_first_visits(finished_steps) } else { 0 };
        let pace = Pace::new(Agenda { references, ..run.agenda() }, start.samples);
        let recipe_yaml = run.recipe.resolved_yaml()?;
        let page = LivePage::begin(
            run.recipe.output_dir.clone(),
            describe(run, session),
            start.begun,
            start.checkpoint.is_some(),
        )?;
        let facts = page.facts(&recipe_yaml);
        let (mut record, state) = match start.checkpoint {
            Some(Checkpoint { path, mut state }) => {
                session.load_checkpoint(&path)?;
                context.observer.note(&format!("resuming after step {} from {}", state.global_step, path.display()));
                let (record, warning) = Record::resume(run.recipe, recipe_yaml, &facts, &state)?;
                warning.iter().for_each(|warning| context.observer.note(warning));
                state.max_steps = run.counts.total_steps;
                (record, state)
            }
            None => {
                let state = TrainerState {
                    global_step: 0,
                    epoch: 0.0,
                    max_steps: run.counts.total_steps,
                    num_tokens: 0,
                    num_skipped_steps: 0,
                    fingerprint: recipe_fingerprint(run.recipe),
                    data: run.data_fingerprint()?,
                    start: Some(start.origins.start),
                    reference: start.origins.reference,
                    num_rows: 0,
                    interim: false,
                };
                (Record::create(run.recipe, recipe_yaml, &facts)?, state)
            }
        };
        write_recipe(run.recipe)?;
        let (name, id) = page.names();
        let tracked = TrackedRun { name: &name, id: &id, recipe_yaml: &record.recipe_yaml.clone() };
        record
            .track(run.recipe, tracked)
            .iter()
            .for_each(|problem| context.observer.note(&format!("warning: {problem}")));
        Ok(Self { run, session, reference: start.reference, state, record, pace, page })
    }

    fn take_all(&mut self, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        if self.state.global_step < self.run.counts.total_steps {
            self.show(context);
        }
        self.catch_up(context)?;
        while self.state.global_step < self.run.counts.total_steps {
            self.stop_if_asked(context)?;
            self.take_one(context)?;
            self.show(context);
            let evaluated = self.evaluate_if_due(context)?;
            let saved = self.save_if_due(context)?;
            let warning = self.page.refresh_if_due(evaluated || saved);
            warning.iter().for_each(|warning| context.observer.note(warning));
        }
        self.stop_if_asked(context)?;
        context.observer.finish();
        Ok(())
    }

    /// Catches up on what an early stop left undone at the current step.
    fn catch_up(&mut self, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        if self.evaluate_if_due(context)? && self.state.global_step > 0 {
            self.state.interim &= !self.run.saves_after(self.state.global_step);
            self.save()?;
        }
        Ok(())
    }

    /// Shows how far the run is.
    fn show(&self, context: &mut RunContext<'_>) {
        let stage = format!("training with {}", self.run.recipe.objective.name);
        context.observer.position(&stage, &self.pace.position(self.state.global_step));
    }

    /// Takes one step and records its row.
    fn take_one(&mut self, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        let (run, step) = (self.run, self.state.global_step);
        if let Some(reference) = &mut self.reference {
            match run.score_before_step(reference, step, self.session, context) {
                Err(TrainError::Interrupted { .. }) => return self.stop_if_asked(context),
                spent => self.pace.scored_reference(spent?),
            }
        }
        let begun = Instant::now();
        let outcome = match take_step(run, self.session, step, context.stop) {
            // Nothing was updated yet: the state is that after the step before, and the resumed run takes this one again.
            Err(TrainError::Interrupted { .. }) => return self.stop_if_asked(context),
            outcome => outcome?,
        };
        if let Some(culprit) = &outcome.culprit {
            self.skip_or_fail(step, &culprit.describe(&run.training)?, context)?;
        }
        self.state.interim = false;
        self.state.global_step += 1;
        self.state.epoch = self.state.global_step as f64 / run.counts.steps_per_epoch as f64;
        self.state.num_tokens += outcome.num_tokens;
        let step_seconds = begun.elapsed().as_secs_f64();
        self.pace.step(step_seconds, outcome.num_tokens);
        let metrics = StepMetrics {
            step: self.state.global_step,
            epoch: self.state.epoch,
            loss: outcome.loss,
            aux_loss: outcome.aux_loss,
            grad_norm: outcome.grad_norm,
            learning_rate: run.learning_rate(step),
            groups: &outcome.groups,
            alpha: run.recipe.objective.alpha(),
            num_tokens: self.state.num_tokens,
            step_seconds,
            memory_bytes: resident_bytes(),
        };
        self.record_step(metrics.row(), context)
    }

    /// Counts a step with non-finite figures as skipped, or ends the run, as the recipe says. Broken weights always end it,
    /// since no later step can repair them.
    fn skip_or_fail(&mut self, step: usize, culprit: &str, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        if let Some(parameter) = self.session.nonfinite_parameter() {
            return Err(TrainError::WeightsNotFinite { step, parameter });
        }
        if self.run.recipe.on_nonfinite == OnNonfinite::Stop {
            context.observer.finish();
            let kept = self.save_interim()?;
            return Err(TrainError::NotFinite { step: step + 1, culprit: culprit.to_owned(), kept });
        }
        self.state.num_skipped_steps += 1;
        context.observer.note(&format!("step {}: left out, {culprit}", step + 1));
        Ok(())
    }

    /// Reports a step's row, and writes it if the recipe records this step.
    fn record_step(&mut self, row: MetricsRow, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        context.observer.step(&row);
        if self.run.records_after(self.state.global_step)
            && let Some(alarm) = self.record.step(row)?
        {
            context.observer.note(&format!("warning: {alarm}"));
        }
        Ok(())
    }

    /// Runs a due evaluation; returns whether it ran. Once a stop is requested, it is left to the resumed run.
    fn evaluate_if_due(&mut self, context: &mut RunContext<'_>) -> Result<bool, TrainError> {
        let step = self.state.global_step;
        let is_due = self.run.evaluates_after(step) && !self.record.has_evaluation(step);
        if !is_due || context.stop.requested().is_some() {
            return Ok(false);
        }
        if let Some(reference) = &mut self.reference {
            match self.run.score_before_evaluation(reference, self.session, context) {
                Err(TrainError::Interrupted { .. }) => return Ok(false),
                scored => scored?,
            }
        }
        let begun = Instant::now();
        let Some(row) = self.run.evaluate(self.session, &self.state, context)? else { return Ok(false) };
        self.pace.evaluated(begun);
        self.record.evaluation(row)?;
        Ok(true)
    }

    /// Ends the run if a stop was requested, with a checkpoint of the current state.
    fn stop_if_asked(&mut self, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        let Some(signal) = context.stop.requested() else { return Ok(()) };
        let kept = self.save_interim()?;
        let out = self.run.recipe.output_dir.display();
        let saved = format!("after step {}; {kept}; continue with --resume --output {out}", self.state.global_step);
        Err(TrainError::Interrupted { signal, saved })
    }

    /// Writes a checkpoint of the current state, due or not; returns a description of what was saved, for the error.
    fn save_interim(&mut self) -> Result<String, TrainError> {
        let step = self.state.global_step;
        if step == 0 {
            return Ok("nothing was trained yet".to_owned());
        }
        let nothing_is_due = !self.run.evaluates_after(step) || self.record.has_evaluation(step);
        self.state.interim = !(self.run.saves_after(step) && nothing_is_due);
        let path = self.save()?;
        Ok(format!("its state is in {}", path.display()))
    }

    /// Writes a checkpoint if one is due, by its step or by the time since the last; returns whether one was. A stop writes its own, which must
    /// record that the evaluation is still due.
    fn save_if_due(&mut self, context: &mut RunContext<'_>) -> Result<bool, TrainError> {
        let by_step = self.run.saves_after(self.state.global_step);
        if context.stop.requested().is_some() || !(by_step || self.pace.is_checkpoint_due()) {
            return Ok(false);
        }
        // The next checkpoint replaces one that is due by time only: what a run leaves does not depend on its speed.
        self.state.interim = !by_step;
        self.save()?;
        Ok(true)
    }

    fn save(&mut self) -> Result<PathBuf, TrainError> {
        let begun = Instant::now();
        let path = self.record.save(&*self.session, &self.state, self.run.recipe.save_total_limit)?;
        self.pace.saved(begun);
        Ok(path)
    }
}
