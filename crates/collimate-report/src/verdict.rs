//! Whether a run learned something, nothing, or did harm: the one place that decides, from the metrics.

mod facts;
#[cfg(test)]
mod tests;

use collimate_data::counted;
use std::collections::VecDeque;
use std::fmt;

use crate::metrics::MetricsRow;
use crate::numbers::plural;
pub use facts::RunFacts;

/// A loss that falls by less than this share of its first value has not been learned from.
const LEARNED: f64 = 0.001;

/// A held-out loss that ends above its first or its lowest value by more than this share of the first was harmed.
const HARMED: f64 = 0.01;

/// Recorded steps to average over at each end of a run, since steps differ in their prompts.
const WINDOW: usize = 10;

/// A run with fewer recorded steps is not said to have learned nothing.
const LEAST_STEPS: usize = 10;

/// The training loss must rise by this many standard errors of its means at both ends to count as harm.
const STANDARD_ERRORS: f64 = 3.0;

/// A run with fewer steps might just have been too short.
const FEW_STEPS: usize = 200;

/// What went wrong with a run, and what would probably help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the metrics show.
    pub finding: String,
    /// What to try, most likely first.
    pub remedies: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; to try: {}", self.finding, self.remedies.join("; "))
    }
}

/// A digest of a run's rows, of constant size, from which the verdict follows.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    first_losses: Vec<f64>,
    last_losses: VecDeque<f64>,
    num_rows: usize,
    last_step: usize,
    /// Training accuracy of the last recorded step.
    accuracy: Option<f64>,
    /// Entropy of the reward weights as a share of its maximum, in the last recorded step.
    evenness: Option<f64>,
    first: Option<HeldOut>,
    lowest: Option<HeldOut>,
    last: Option<HeldOut>,
}

/// An evaluation on held-out data.
#[derive(Debug, Clone, Copy)]
struct HeldOut {
    step: usize,
    loss: f64,
    accuracy: Option<f64>,
}

/// The mean training loss at both ends of a run.
#[derive(Debug, Clone, Copy)]
struct Ends {
    first: f64,
    last: f64,
    /// Standard error of their difference.
    error: f64,
}

impl Ends {
    fn fell(&self) -> bool {
        self.first - self.last > (LEARNED * self.first.abs()).max(STANDARD_ERRORS * self.error)
    }

    fn rose(&self) -> bool {
        self.last - self.first > (HARMED * self.first.abs()).max(STANDARD_ERRORS * self.error)
    }

    /// Whether there was no change, and one would have been visible.
    fn stayed(&self) -> bool {
        (self.last - self.first).abs().max(STANDARD_ERRORS * self.error) < LEARNED * self.first.abs()
    }
}

impl Judge {
    /// A digest of these rows.
    pub fn from_rows(rows: &[MetricsRow]) -> Self {
        let mut judge = Self::default();
        rows.iter().for_each(|row| judge.feed(row));
        judge
    }

    /// Adds a row of a step or an evaluation.
    pub fn feed(&mut self, row: &MetricsRow) {
        let step = row.get("step").unwrap_or(0.0) as usize;
        if let Some(loss) = row.get("eval_loss") {
            let found = HeldOut { step, loss, accuracy: row.get("eval_rewards/accuracies") };
            self.first.get_or_insert(found);
            if self.lowest.is_none_or(|lowest| loss < lowest.loss) {
                self.lowest = Some(found);
            }
            self.last = Some(found);
        }
        let Some(loss) = row.get("loss") else { return };
        if self.first_losses.len() < WINDOW {
            self.first_losses.push(loss);
        }
        self.last_losses.push_back(loss);
        if self.last_losses.len() > WINDOW {
            self.last_losses.pop_front();
        }
        self.num_rows += 1;
        self.last_step = step;
        self.accuracy = row.get("rewards/accuracies").or(self.accuracy);
        let num_ranks = (0..).take_while(|rank| row.get(&format!("rewards/rank_{rank}")).is_some()).count();
        self.evenness = row.get("weights/entropy").filter(|_| num_ranks > 1).map(|h| h / (num_ranks as f64).ln());
    }

    /// What went wrong, if anything did. Held-out data decides where there is some: its prompts are the same each time.
    pub fn verdict(&self, facts: &RunFacts) -> Option<Verdict> {
        match (self.first, self.lowest, self.last) {
            (Some(first), Some(lowest), Some(last)) if last.step > first.step => {
                self.of_held_out(first, lowest, last, facts)
            }
            _ => self.of_training(facts),
        }
    }

    fn of_held_out(&self, first: HeldOut, lowest: HeldOut, last: HeldOut, facts: &RunFacts) -> Option<Verdict> {
        let size = first.loss.abs();
        let change = format!("from {:.4} to {:.4}", first.loss, last.loss);
        let training_fell = self.ends().is_some_and(|ends| ends.fell());
        if last.loss - lowest.loss > HARMED * size && first.loss - lowest.loss > LEARNED * size {
            let at_end = if last.loss > first.loss { ", more than it began with" } else { "" };
            let finding = format!(
                "the run went on too long: the held-out loss fell from {:.4} to {:.4} at step {}, then rose to {:.4}{at_end}",
                first.loss, lowest.loss, lowest.step, last.loss
            );
            let fewer =
                format!("end near step {} (num_train_epochs, max_steps), or use a checkpoint from there", lowest.step);
            return Some(Verdict { finding, remedies: [vec![fewer], gentler(facts)].concat() });
        }
        if last.loss - first.loss > HARMED * size {
            let finding = format!("the run did harm: the held-out loss rose {change}{}", accuracy(first, last));
            return Some(Verdict { finding, remedies: self.against_harm(training_fell, last.accuracy, facts) });
        }
        if first.loss - last.loss >= LEARNED * size || self.num_rows < LEAST_STEPS {
            return None;
        }
        if training_fell {
            let finding = format!(
                "the run learned its prompts by heart: the training loss fell, the held-out loss went {change}"
            );
            let remedies = vec!["more prompts, or fewer passes over them (num_train_epochs)".to_owned()];
            return Some(Verdict { finding, remedies });
        }
        let finding = format!("the run learned nothing: the held-out loss went {change}{}", self.in_steps());
        Some(Verdict { finding, remedies: self.against_nothing(facts) })
    }

    fn of_training(&self, facts: &RunFacts) -> Option<Verdict> {
        let ends = self.ends()?;
        let change =
            format!("from {:.4} to {:.4} (means of {})", ends.first, ends.last, counted(self.window(), "step"));
        if ends.rose() {
            let finding = format!("the run did harm: the training loss rose {change}");
            return Some(Verdict { finding, remedies: self.against_harm(false, self.accuracy, facts) });
        }
        if ends.stayed() && self.num_rows >= LEAST_STEPS {
            let finding = format!("the run learned nothing: the training loss went {change}{}", self.in_steps());
            return Some(Verdict { finding, remedies: self.against_nothing(facts) });
        }
        None
    }

    fn in_steps(&self) -> String {
        format!(" in {}", plural(self.last_step, "step"))
    }

    /// Rows of each window; those of a short run do not overlap.
    fn window(&self) -> usize {
        WINDOW.min(self.num_rows / 2)
    }

    fn ends(&self) -> Option<Ends> {
        let window = self.window();
        if window == 0 {
            return None;
        }
        let last: Vec<f64> = self.last_losses.iter().copied().skip(self.last_losses.len() - window).collect();
        let ((first, first_error), (last, last_error)) = (mean(&self.first_losses[..window]), mean(&last));
        Some(Ends { first, last, error: first_error.hypot(last_error) })
    }

    fn against_nothing(&self, facts: &RunFacts) -> Vec<String> {
        let mut remedies = vec![facts.higher_rate()];
        if self.last_step < FEW_STEPS {
            remedies.push(format!("more than {} (num_train_epochs, max_steps)", plural(self.last_step, "step")));
        }
        if self.evenness.is_some_and(|evenness| evenness > 0.99) {
            remedies.push("a smaller alpha: the rewards weigh a prompt's responses almost equally".to_owned());
        }
        remedies
    }

    fn against_harm(&self, training_fell: bool, accuracy: Option<f64>, facts: &RunFacts) -> Vec<String> {
        let mut remedies = Vec::new();
        if training_fell {
            remedies.push("fewer passes over the data (num_train_epochs), or more prompts".to_owned());
        }
        remedies.extend(gentler(facts));
        if accuracy.is_some_and(|accuracy| accuracy < 0.5) {
            remedies.push("`collimate data check`, to see whether high rewards are good answers".to_owned());
        }
        remedies
    }
}

/// What keeps the policy nearer to where it began.
fn gentler(facts: &RunFacts) -> Vec<String> {
    std::iter::once(facts.lower_rate()).chain(facts.larger_beta()).collect()
}

/// How the held-out accuracy changed, if it is known. It may rise while the loss does.
fn accuracy(first: HeldOut, last: HeldOut) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let both = first.accuracy.zip(last.accuracy);
    both.map(|(first, last)| format!(" (accuracy {} to {})", percent(first), percent(last))).unwrap_or_default()
}

/// The mean and its standard error.
fn mean(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}
