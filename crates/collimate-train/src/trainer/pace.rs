//! How fast a run is, what it has left to do, and when a checkpoint is due by time.

use std::time::{Duration, Instant};

use collimate_progress::{Forecast, StepPosition, Work};

use super::run::Run;

/// The times of a process of a run. They decide when a checkpoint that the next one replaces is written, and nothing else.
#[derive(Debug)]
pub(super) struct Pace {
    total_steps: usize,
    /// Steps after which held-out data is evaluated, in order.
    evaluations: Vec<usize>,
    /// Steps after which a checkpoint is written whatever the time, in order.
    checkpoints: Vec<usize>,
    forecast: Forecast,
    /// Tokens and seconds of recent steps.
    recent: (f64, f64),
    /// Time between checkpoints; `None` if they depend on steps only.
    interval: Option<Duration>,
    last_checkpoint: Instant,
}

/// Share of the recent steps' sums that each further step keeps.
const KEPT: f64 = 0.95;

impl Pace {
    /// The pace of a run whose sample answers took this long.
    pub(super) fn new(run: &Run<'_>, samples: Duration) -> Self {
        let total_steps = run.counts.total_steps;
        let steps_where = |is_due: &dyn Fn(usize) -> bool| (1..=total_steps).filter(|&step| is_due(step)).collect();
        let mut forecast = Forecast::default();
        forecast.spent(Work::Samples, samples.as_secs_f64());
        Self {
            total_steps,
            evaluations: steps_where(&|step| run.evaluates_after(step)),
            checkpoints: steps_where(&|step| run.saves_after(step)),
            forecast,
            recent: (0.0, 0.0),
            interval: run.recipe.save_interval(),
            last_checkpoint: Instant::now(),
        }
    }

    /// Adds a step's time.
    pub(super) fn step(&mut self, seconds: f64, num_tokens: u64) {
        self.forecast.spent(Work::Step, seconds);
        self.recent = (self.recent.0 * KEPT + num_tokens as f64, self.recent.1 * KEPT + seconds);
    }

    /// Adds the time of an evaluation that began at `begun`.
    pub(super) fn evaluated(&mut self, begun: Instant) {
        self.forecast.spent(Work::Evaluation, begun.elapsed().as_secs_f64());
    }

    /// Adds the time of a checkpoint that was begun at `begun`.
    pub(super) fn saved(&mut self, begun: Instant) {
        self.forecast.spent(Work::Checkpoint, begun.elapsed().as_secs_f64());
        self.last_checkpoint = Instant::now();
    }

    /// Whether the last checkpoint is so old that another is due.
    pub(super) fn is_checkpoint_due(&self) -> bool {
        self.interval.is_some_and(|interval| self.last_checkpoint.elapsed() >= interval)
    }

    /// The position after `done` steps.
    pub(super) fn position(&self, done: usize) -> StepPosition {
        let left_of = |due: &[usize]| due.len() - due.partition_point(|&step| step <= done);
        let work = [
            (Work::Step, self.total_steps - done),
            (Work::Evaluation, left_of(&self.evaluations)),
            (Work::Checkpoint, left_of(&self.checkpoints)),
            (Work::Samples, 1),
        ];
        let by_time = match (self.interval, self.forecast.mean(Work::Checkpoint)) {
            (Some(interval), Some(seconds)) => seconds / interval.as_secs_f64().max(seconds),
            _ => 0.0,
        };
        let (tokens, seconds) = self.recent;
        StepPosition {
            done: done as u64,
            total: self.total_steps as u64,
            step_seconds: self.forecast.mean(Work::Step),
            tokens_per_second: (seconds > 0.0).then(|| tokens / seconds),
            left_seconds: self.forecast.left(&work).map(|left| left * (1.0 + by_time)),
        }
    }
}
