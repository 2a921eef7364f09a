//! How fast a run is, what it has left to do, and when a checkpoint is due by time.

use std::time::{Duration, Instant};

use collimate_recipe::DueSteps;

use crate::{Forecast, StepPosition, Work};

/// What a run does after which steps.
#[derive(Debug, Clone, Copy, Default)]
pub struct Agenda {
    /// Steps of the whole run.
    pub total_steps: usize,
    /// Steps after which held-out data is evaluated.
    pub evaluations: DueSteps,
    /// Steps after which a checkpoint is written whatever the time.
    pub checkpoints: DueSteps,
    /// Time between checkpoints; `None` if they depend on steps only.
    pub interval: Option<Duration>,
    /// Steps up to which the reference may have to be scored for a step; 0 if all of it is known.
    pub references: usize,
}

/// The times of a process of a run. They decide when a checkpoint that the next one replaces is written, and nothing else.
#[derive(Debug)]
pub struct Pace {
    agenda: Agenda,
    forecast: Forecast,
    /// Tokens and seconds of recent steps.
    recent: (f64, f64),
    last_checkpoint: Instant,
}

/// Share of the recent steps' sums that each further step keeps.
const KEPT: f64 = 0.95;

impl Pace {
    /// The pace of a run whose sample answers took this long.
    pub fn new(agenda: Agenda, samples: Duration) -> Self {
        let mut forecast = Forecast::default();
        forecast.spent(Work::Samples, samples.as_secs_f64());
        Self { agenda, forecast, recent: (0.0, 0.0), last_checkpoint: Instant::now() }
    }

    /// Adds a step's time.
    pub fn step(&mut self, seconds: f64, num_tokens: u64) {
        self.forecast.spent(Work::Step, seconds);
        self.recent = (self.recent.0 * KEPT + num_tokens as f64, self.recent.1 * KEPT + seconds);
    }

    /// Adds the time that the reference took before a step.
    pub fn scored_reference(&mut self, time: Duration) {
        self.forecast.spent(Work::Reference, time.as_secs_f64());
    }

    /// Adds the time of an evaluation that began at `begun`.
    pub fn evaluated(&mut self, begun: Instant) {
        self.forecast.spent(Work::Evaluation, begun.elapsed().as_secs_f64());
    }

    /// Adds the time of a checkpoint that was begun at `begun`.
    pub fn saved(&mut self, begun: Instant) {
        self.forecast.spent(Work::Checkpoint, begun.elapsed().as_secs_f64());
        self.last_checkpoint = Instant::now();
    }

    /// Whether the last checkpoint is so old that another is due.
    pub fn is_checkpoint_due(&self) -> bool {
        self.agenda.interval.is_some_and(|interval| self.last_checkpoint.elapsed() >= interval)
    }

    /// The position after `done` steps.
    pub fn position(&self, done: usize) -> StepPosition {
        let left_of = |due: DueSteps| due.count(self.agenda.total_steps) - due.count(done);
        let work = [
            (Work::Step, self.agenda.total_steps - done),
            (Work::Evaluation, left_of(self.agenda.evaluations)),
            (Work::Checkpoint, left_of(self.agenda.checkpoints)),
            (Work::Samples, 1),
            (Work::Reference, self.agenda.references.saturating_sub(done)),
        ];
        let by_time = match (self.agenda.interval, self.forecast.mean(Work::Checkpoint)) {
            (Some(interval), Some(seconds)) => seconds / interval.as_secs_f64().max(seconds),
            _ => 0.0,
        };
        let (tokens, seconds) = self.recent;
        StepPosition {
            done: done as u64,
            total: self.agenda.total_steps as u64,
            step_seconds: self.forecast.mean(Work::Step),
            tokens_per_second: (seconds > 0.0).then(|| tokens / seconds),
            left_seconds: self.forecast.left(&work).map(|left| left * (1.0 + by_time)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agenda(interval: Option<Duration>) -> Agenda {
        let (evaluations, checkpoints) = (DueSteps::every(25), DueSteps::every(50));
        Agenda { total_steps: 100, evaluations, checkpoints, interval, references: 0 }
    }

    #[test]
    fn the_time_left_is_that_of_what_is_left() {
        let mut pace = Pace::new(agenda(None), Duration::from_secs(8));
        assert_eq!(pace.position(0), StepPosition { total: 100, ..StepPosition::default() });
        pace.forecast.spent(Work::Evaluation, 10.0);
        pace.forecast.spent(Work::Checkpoint, 3.0);
        (0..50).for_each(|_| pace.step(2.0, 400));
        let position = pace.position(50);
        assert_eq!((position.done, position.total, position.step_seconds), (50, 100, Some(2.0)));
        let left = position.left_seconds.expect("steps were timed");
        assert!((left - (50.0 * 2.0 + 2.0 * 10.0 + 3.0 + 8.0)).abs() < 1e-9, "{left}");
        assert!(position.tokens_per_second.is_some_and(|rate| (rate - 200.0).abs() < 1e-9), "{position:?}");
        assert_eq!(pace.position(100).left_seconds, Some(8.0), "the answers are still to come");
    }

    #[test]
    fn the_reference_takes_its_time_in_the_first_steps_only() {
        let mut pace = Pace::new(Agenda { references: 60, ..agenda(None) }, Duration::ZERO);
        (0..50).for_each(|_| {
            pace.scored_reference(Duration::from_secs(3));
            pace.step(2.0, 400);
        });
        let left = |done| pace.position(done).left_seconds.expect("steps were timed");
        assert!((left(50) - (50.0 * 2.0 + 10.0 * 3.0)).abs() < 1e-9, "{}", left(50));
        assert!((left(80) - 20.0 * 2.0).abs() < 1e-9, "{}", left(80));
    }

    #[test]
    fn checkpoints_by_time_take_their_share() {
        let mut pace = Pace::new(agenda(Some(Duration::from_secs(60))), Duration::ZERO);
        assert!(!pace.is_checkpoint_due());
        pace.forecast.spent(Work::Checkpoint, 6.0);
        pace.step(1.0, 1);
        let left = pace.position(50).left_seconds.expect("a step was timed");
        assert!((left - (50.0 + 6.0) * 1.1).abs() < 1e-9, "{left}");
    }

    #[test]
    fn a_checkpoint_is_due_once_the_last_is_old_enough() {
        let mut pace = Pace::new(agenda(Some(Duration::from_millis(20))), Duration::ZERO);
        std::thread::sleep(Duration::from_millis(25));
        assert!(pace.is_checkpoint_due());
        pace.saved(Instant::now());
        assert!(!pace.is_checkpoint_due());
        std::thread::sleep(Duration::from_millis(25));
        assert!(pace.is_checkpoint_due());
    }
}
