//! The rows of a step and of an evaluation, under TRL's names.

use super::groups::{GroupFigures, GroupOutcome, group_metrics};
use super::row::MetricsRow;

/// Figures that another run of the same recipe does not repeat: time and memory.
pub const CLOCKED: [&str; 2] = ["step_seconds", "memory_bytes"];

/// The figures of one optimizer step.
#[derive(Debug, Clone)]
pub struct StepMetrics<'a> {
    /// The step, counted from 1.
    pub step: usize,
    /// Passes over the data so far.
    pub epoch: f64,
    /// Mean loss over the prompts of the step, including the weighted balance loss of a router if there is one.
    pub loss: f64,
    /// The unweighted balance loss, if there is one.
    pub aux_loss: Option<f64>,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// The prompts of the step, scored before its update.
    pub groups: &'a [GroupOutcome],
    /// The objective's reward temperature α, if it has one.
    pub alpha: Option<f64>,
    /// Tokens seen since the start of the run.
    pub num_tokens: u64,
    /// Wall-clock seconds of the step.
    pub step_seconds: f64,
    /// Resident memory of the process after the step, if the system reports it.
    pub memory_bytes: Option<u64>,
}

impl StepMetrics<'_> {
    /// The row of `metrics.jsonl`.
    pub fn row(&self) -> MetricsRow {
        let mut row = MetricsRow::default();
        row.set_count("step", self.step as u64);
        row.set("epoch", self.epoch);
        row.set("loss", self.loss);
        if let Some(aux_loss) = self.aux_loss {
            row.set("aux_loss", aux_loss);
        }
        row.set("grad_norm", self.grad_norm);
        row.set("learning_rate", self.learning_rate);
        row.extend(group_metrics(self.groups, self.alpha));
        row.set_count("num_tokens", self.num_tokens);
        row.set("step_seconds", self.step_seconds);
        if let Some(bytes) = self.memory_bytes {
            row.set_count("memory_bytes", bytes);
        }
        row
    }
}

/// The row of an evaluation: the figures of a step with the prefix `eval_`, beside `step` and `epoch`.
pub fn evaluation_row(step: usize, epoch: f64, loss: f64, groups: &GroupFigures) -> MetricsRow {
    let mut row = MetricsRow::default();
    row.set_count("step", step as u64);
    row.set("epoch", epoch);
    let mut figures = MetricsRow::default();
    figures.set("loss", loss);
    figures.extend(groups.row());
    row.extend(figures.prefixed("eval_"));
    row
}
