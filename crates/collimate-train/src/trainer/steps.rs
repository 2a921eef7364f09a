//! The loop over all steps, from the first one or a checkpoint to the last.

mod early_end;

use std::path::PathBuf;
use std::time::Instant;

use collimate_best::judge;
use collimate_progress::{Agenda, Pace, add_speed, resident_bytes, straggler};
use collimate_recipe::OnNonfinite;
use collimate_report::StepMetrics;

use super::books::Books;
use super::record::Saved;
use super::resume::recipe_fingerprint;
use super::run::Run;
use super::start::Start;
use super::step::{StepOutcome, take_step};
use crate::control::RunContext;
use crate::error::TrainError;
use crate::reference::Waiting;
use collimate_checkpoint::{Checkpoint, TrainerState};
use collimate_session::Session;

/// A run between two steps: the model, the state, and the records so far.
struct Steps<'a> {
    run: &'a Run<'a>,
    session: &'a mut dyn Session,
    reference: Option<Waiting<'a>>,
    state: TrainerState,
    /// On the first rank.
    books: Option<Books>,
    pace: Pace,
    /// Whether the weights are those of the best evaluation, and no checkpoint has them.
    best_is_new: bool,
    /// The most memory that each rank held after a step.
    memory: Vec<u64>,
}

/// A run after its last step.
pub(super) struct Finished {
    pub(super) state: TrainerState,
    /// On the first rank.
    pub(super) books: Option<Books>,
    /// The most memory that each rank held after a step.
    pub(super) memory: Vec<u64>,
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
        let warning = steps.books.as_mut().and_then(|books| books.page.refresh());
        warning.iter().for_each(|warning| context.observer.note(warning));
    }
    taken?;
    let Steps { state, books, memory, .. } = steps;
    Ok(Finished { state, books, memory })
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
        if let Some(Checkpoint { path, .. }) = &start.checkpoint {
            session.load_checkpoint(path, context.ranks.world())?;
            context.observer.note(&format!("resuming after step {finished_steps} from {}", path.display()));
        }
        let books = context.ranks.is_first().then(|| Books::begin(run, session, &start, context)).transpose()?;
        let state = match start.checkpoint {
            Some(Checkpoint { state, .. }) => TrainerState { max_steps: run.counts.total_steps, ..state },
            None => TrainerState {
                max_steps: run.counts.total_steps,
                fingerprint: recipe_fingerprint(run.given),
                data: run.data_fingerprint()?,
                start: Some(start.origins.start),
                reference: start.origins.reference,
                ranks: start.ranks,
                ..TrainerState::default()
            },
        };
        Ok(Self {
            run,
            session,
            reference: start.reference,
            state,
            books,
            pace,
            best_is_new: false,
            memory: Vec::new(),
        })
    }

    fn take_all(&mut self, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        if self.has_steps_left() {
            self.show(context);
        }
        self.catch_up(context)?;
        while self.has_steps_left() {
            self.stop_if_asked(context)?;
            self.take_one(context)?;
            self.show(context);
            let evaluated = self.evaluate_if_due(context)?;
            let saved = self.save_if_due(context)?;
            let page = self.books.as_mut().map(|books| &mut books.page);
            let warning = page.and_then(|page| page.refresh_if_due(evaluated || saved));
            warning.iter().for_each(|warning| context.observer.note(warning));
        }
        self.stop_if_asked(context)?;
        context.observer.finish();
        self.end_early(context)
    }

    /// Catches up on what an early stop left undone at the current step.
    fn catch_up(&mut self, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        if self.evaluate_if_due(context)? && self.state.global_step > 0 {
            self.state.interim &= !self.run.saves_after(self.state.global_step);
            self.save(context)?;
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
        let outcome = match take_step(run, self.session, step, &context.ranks) {
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
        let (num_tokens, step_seconds) = (outcome.num_tokens(), begun.elapsed().as_secs_f64());
        self.state.num_tokens += num_tokens;
        self.pace.step(step_seconds, num_tokens);
        self.record_step(outcome, step_seconds, context)
    }

    /// Counts a step with non-finite figures as skipped, or ends the run, as the recipe says. Broken weights always end it,
    /// since no later step can repair them.
    fn skip_or_fail(&mut self, step: usize, culprit: &str, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        if let Some(parameter) = self.session.nonfinite_parameter() {
            return Err(TrainError::WeightsNotFinite { step, parameter });
        }
        if self.run.recipe.on_nonfinite == OnNonfinite::Stop {
            context.observer.finish();
            let kept = self.save_interim(context)?;
            return Err(TrainError::NotFinite { step: step + 1, culprit: culprit.to_owned(), kept });
        }
        self.state.num_skipped_steps += 1;
        context.observer.note(&format!("step {}: left out, {culprit}", step + 1));
        Ok(())
    }

    /// Reports a step's row, and writes it if the recipe records this step.
    fn record_step(
        &mut self,
        outcome: StepOutcome,
        step_seconds: f64,
        context: &mut RunContext<'_>,
    ) -> Result<(), TrainError> {
        let metrics = StepMetrics {
            step: self.state.global_step,
            epoch: self.state.epoch,
            loss: outcome.loss,
            aux_loss: outcome.aux_loss,
            grad_norm: outcome.grad_norm,
            learning_rate: self.run.learning_rate(self.state.global_step - 1),
            groups: &outcome.groups,
            alpha: self.run.recipe.objective.alpha(),
            num_tokens: self.state.num_tokens,
            step_seconds,
            memory_bytes: resident_bytes(),
        };
        let mut row = metrics.row();
        add_speed(&mut row, &outcome.shares, step_seconds);
        self.memory.resize(outcome.shares.len(), 0);
        self.memory.iter_mut().zip(&outcome.shares).for_each(|(most, share)| *most = share.memory.max(*most));
        if let Some(line) = straggler(&outcome.shares) {
            context.observer.note(&format!("step {}: {line}", self.state.global_step));
        }
        context.observer.step(&row);
        match &mut self.books {
            Some(books) if self.run.records_after(self.state.global_step) => books.step(row, context),
            _ => Ok(()),
        }
    }

    /// Runs a due evaluation; returns whether it ran. Once a stop is requested, it is left to the resumed run.
    fn evaluate_if_due(&mut self, context: &mut RunContext<'_>) -> Result<bool, TrainError> {
        let step = self.state.global_step;
        // The first rank alone knows which evaluations there were.
        let is_due = self.run.evaluates_after(step) && context.ranks.first_says(!self.has_evaluation())?;
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
        self.books.iter_mut().try_for_each(|books| books.record.evaluation(row.clone()))?;
        let is_best = judge(self.run.given, &mut self.state, &row)?;
        self.best_is_new = is_best && self.run.recipe.load_best_model_at_end;
        Ok(true)
    }

    fn has_evaluation(&self) -> bool {
        self.books.as_ref().is_some_and(|books| books.record.has_evaluation(self.state.global_step))
    }

    /// Ends the run if a stop was requested, with a checkpoint of the current state.
    fn stop_if_asked(&mut self, context: &mut RunContext<'_>) -> Result<(), TrainError> {
        let Some(signal) = context.stop.requested() else { return Ok(()) };
        let kept = self.save_interim(context)?;
        let out = self.run.recipe.output_dir.display();
        let saved = format!("after step {}; {kept}; continue with --resume --output {out}", self.state.global_step);
        Err(TrainError::Interrupted { signal, saved })
    }

    /// Writes a checkpoint of the current state, due or not; returns a description of what was saved, for the error.
    fn save_interim(&mut self, context: &mut RunContext<'_>) -> Result<String, TrainError> {
        let step = self.state.global_step;
        if step == 0 {
            return Ok("nothing was trained yet".to_owned());
        }
        let nothing_is_due = !self.run.evaluates_after(step) || self.has_evaluation();
        self.state.interim = !(self.run.saves_after(step) && nothing_is_due);
        let path = self.save(context)?;
        let place = path.map_or_else(|| "the first rank's folder".to_owned(), |path| path.display().to_string());
        Ok(format!("its state is in {place}"))
    }

    /// Writes a checkpoint if one is due, by its step, for a best evaluation, or by the time since the last; returns whether one was. A stop writes its own, which must
    /// record that the evaluation is still due.
    fn save_if_due(&mut self, context: &mut RunContext<'_>) -> Result<bool, TrainError> {
        let by_step = self.run.saves_after(self.state.global_step) || self.reason_to_end().is_some();
        // By the clock of the first rank.
        let is_due = by_step || self.best_is_new || context.ranks.first_says(self.pace.is_checkpoint_due())?;
        if context.stop.requested().is_some() || !is_due {
            return Ok(false);
        }
        // The next checkpoint replaces one that is due by time only: what a run leaves does not depend on its speed. One of a
        // best evaluation stays until another is best.
        self.state.interim = !by_step;
        self.save(context)?;
        Ok(true)
    }

    /// Writes a checkpoint; returns its path on the first rank.
    fn save(&mut self, context: &mut RunContext<'_>) -> Result<Option<PathBuf>, TrainError> {
        let begun = Instant::now();
        let saved = Saved { session: &*self.session, state: &self.state, world: context.ranks.world() };
        let path = Books::save(self.books.as_ref(), &saved, self.run.recipe)?;
        self.best_is_new = false;
        self.pace.saved(begun);
        Ok(path)
    }
}
