//! What is under way: a stage, and the steps that it interrupts.

use std::time::{Duration, Instant};

use collimate_report::MetricsRow;

use crate::StepPosition;
use crate::draw::View;
use crate::format::{format_bytes, format_seconds, item_rate, step_rate, three_digits};

/// What is under way.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    steps: Option<Steps>,
    /// Interrupts the steps, if there are any.
    stage: Option<Stage>,
}

/// The steps of a run.
#[derive(Debug)]
struct Steps {
    name: String,
    position: StepPosition,
    begun: Instant,
    figures: Vec<String>,
}

/// A number of items.
#[derive(Debug)]
struct Stage {
    name: String,
    total: Option<u64>,
    done: u64,
    begun: Instant,
    figures: Vec<String>,
}

impl Stages {
    /// Begins a stage; another one must have been finished.
    pub(crate) fn begin(&mut self, name: &str, total: Option<u64>) {
        let name = name.to_owned();
        self.stage = Some(Stage { name, total, done: 0, begun: Instant::now(), figures: Vec::new() });
    }

    /// Whether a stage is under way, not counting the steps.
    pub(crate) fn in_stage(&self) -> bool {
        self.stage.is_some()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.steps.is_none() && self.stage.is_none()
    }

    pub(crate) fn advance(&mut self, n: u64) {
        if let Some(stage) = &mut self.stage {
            stage.done += n;
        }
    }

    /// Sets the position of the steps; returns whether that began them.
    pub(crate) fn position(&mut self, name: &str, position: &StepPosition) -> bool {
        match &mut self.steps {
            Some(steps) => {
                steps.position = *position;
                false
            }
            None => {
                let (name, position) = (name.to_owned(), *position);
                self.steps = Some(Steps { name, position, begun: Instant::now(), figures: Vec::new() });
                true
            }
        }
    }

    /// Shows the figures of a row.
    pub(crate) fn row(&mut self, row: &MetricsRow) {
        match (&mut self.stage, &mut self.steps) {
            (Some(stage), _) => stage.figures = figures(row),
            (None, Some(steps)) => steps.figures = figures(row),
            (None, None) => {}
        }
    }

    /// Ends the stage, or else the steps; returns a line about it.
    pub(crate) fn finish(&mut self) -> Option<String> {
        let (view, took) = match (self.stage.take(), &self.steps) {
            (Some(stage), steps) => {
                let took = stage.begun.elapsed();
                let mut view = stage.view(took);
                if let Some(Steps { position, .. }) = steps {
                    view.name += &format!(" after step {}", position.done);
                }
                (view, took)
            }
            (None, Some(_)) => {
                let steps = self.steps.take()?;
                // The end of the run has a line about its figures.
                (View { figures: Vec::new(), ..steps.view() }, steps.begun.elapsed())
            }
            (None, None) => return None,
        };
        (view.done > 0 || view.total == Some(0)).then(|| view.ended(&format_seconds(took.as_secs_f64())))
    }

    /// What to show now.
    pub(crate) fn view(&self) -> Option<View> {
        match (&self.stage, &self.steps) {
            (Some(stage), _) => Some(stage.view(stage.begun.elapsed())),
            (None, Some(steps)) => Some(steps.view()),
            (None, None) => None,
        }
    }
}

impl Stage {
    fn view(&self, elapsed: Duration) -> View {
        let seconds = elapsed.as_secs_f64();
        let left = |total: u64| total.saturating_sub(self.done) as f64 * seconds / self.done as f64;
        View {
            name: self.name.clone(),
            done: self.done,
            total: self.total,
            left: self.total.filter(|_| self.done > 0).map(left),
            rates: if self.done > 0 { vec![item_rate(self.done, seconds)] } else { Vec::new() },
            memory: memory(),
            figures: self.figures.clone(),
        }
    }
}

impl Steps {
    fn view(&self) -> View {
        let position = &self.position;
        let tokens = position.tokens_per_second.map(|rate| format!("{} tokens/s", three_digits(rate)));
        View {
            name: self.name.clone(),
            done: position.done,
            total: Some(position.total),
            left: position.left_seconds,
            rates: position.step_seconds.map(step_rate).into_iter().chain(tokens).collect(),
            memory: memory(),
            figures: self.figures.clone(),
        }
    }
}

/// This process's resident memory in bytes; `None` if the system does not report it.
pub fn resident_bytes() -> Option<u64> {
    memory_stats::memory_stats().map(|stats| stats.physical_mem as u64)
}

fn memory() -> Option<String> {
    resident_bytes().map(format_bytes)
}

/// Loss, margin and accuracy in a few words.
fn figures(row: &MetricsRow) -> Vec<String> {
    let part = |label: &str, names: [&str; 2]| {
        let value = names.iter().find_map(|name| row.get(name))?;
        Some(format!("{label} {value:.4}"))
    };
    let parts = [
        part("loss", ["loss", "eval_loss"]),
        part("margin", ["rewards/margins", "eval_rewards/margins"]),
        part("acc", ["rewards/accuracies", "eval_rewards/accuracies"]),
    ];
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(loss: f64) -> MetricsRow {
        let mut row = MetricsRow::default();
        row.set("loss", loss);
        row
    }

    #[test]
    fn steps_go_on_where_a_stage_interrupted_them() {
        let mut stages = Stages::default();
        let at = |done| StepPosition { done, total: 120, step_seconds: Some(0.5), ..StepPosition::default() };
        assert!(stages.position("training with nca", &at(40)), "resumed after 40 steps");
        assert!(!stages.position("training with nca", &at(50)));
        stages.row(&row(0.5));
        stages.begin("evaluation", Some(13));
        stages.advance(13);
        stages.row(&row(0.25));
        let shown = stages.view().expect("the stage");
        assert_eq!((shown.name.as_str(), shown.done, shown.total), ("evaluation", 13, Some(13)));
        let ended = stages.finish().expect("a line");
        assert_eq!(ended, "evaluation after step 50: 13/13 in 0.0 s  loss 0.2500");
        let shown = stages.view().expect("the steps");
        assert_eq!((shown.done, shown.total, shown.figures), (50, Some(120), vec!["loss 0.5000".to_owned()]));
        assert_eq!(shown.rates, ["2.00 steps/s"]);
        assert_eq!(stages.finish().expect("a line"), "training with nca: 50/120 in 0.0 s, 2.00 steps/s");
        assert!(stages.is_idle() && stages.finish().is_none());
    }
}
