//! What a finished run came to, and the lines logged after its last step.

use std::path::PathBuf;

use collimate_data::{either, noun_for};
use collimate_report::{MetricsRow, Rounding};

use crate::{format_bytes, format_count};

/// The outcome of a finished run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSummary {
    /// Folder with the final model or adapter, metrics, card and report.
    pub output_dir: PathBuf,
    /// Optimizer steps of the run.
    pub num_steps: usize,
    /// Prompts in the training data.
    pub num_groups: usize,
    /// BLAKE3 of the base model's weights and settings, in hexadecimal; `None` if the base could not be read.
    pub base_hash: Option<String>,
    /// The first recorded step's figures.
    pub first: Option<MetricsRow>,
    /// The last step's figures.
    pub last: Option<MetricsRow>,
    /// Evaluations on held-out data at the start and at the end.
    pub evaluations: Vec<MetricsRow>,
    /// The best evaluation, if its weights are saved.
    pub best: Option<SavedBest>,
    /// Steps skipped because a figure was not finite.
    pub num_skipped_steps: usize,
    /// What rounding the weights to their storage dtype takes of what was learned; `None` if they are not rounded.
    pub rounding: Option<Rounding>,
    /// The last warning that the chosen responses lose likelihood, if any.
    pub chosen_alarm: Option<String>,
    /// What went wrong with the training, and what might help: it learned nothing, or did harm.
    pub verdict: Option<String>,
    /// Wall-clock time without that of sample answers.
    pub seconds: f64,
    /// Time of the sample answers.
    pub sample_seconds: f64,
    /// The most memory that each of several ranks held after a step, in bytes.
    pub rank_memory: Vec<u64>,
}

/// The evaluation whose weights are saved.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedBest {
    /// Optimizer steps finished before it.
    pub step: usize,
    /// What to say of it.
    pub line: String,
}

impl TrainSummary {
    /// The outcome of the run, in a few lines.
    pub fn lines(&self) -> Vec<String> {
        let samples = match self.sample_seconds {
            0.0 => String::new(),
            seconds => format!(", sample answers {seconds:.1} s"),
        };
        let mut lines = vec![format!("{} in {:.0} s{samples}", count(self.num_steps, "step"), self.seconds)];
        if let (Some(first), Some(last)) = (&self.first, &self.last) {
            lines.extend(change("training", "", first, last));
        }
        if let [first, last] = self.evaluations.as_slice() {
            lines.extend(change("held out", "eval_", first, last));
        }
        lines.extend(self.best.iter().map(|best| best.line.clone()));
        if self.num_skipped_steps > 0 {
            lines.push(format!(
                "{} {} left out: a figure was not finite",
                count(self.num_skipped_steps, "step"),
                either(self.num_skipped_steps, "was", "were")
            ));
        }
        if !self.rank_memory.is_empty() {
            let held: Vec<String> = self.rank_memory.iter().map(|bytes| format_bytes(*bytes)).collect();
            lines.push(format!("most memory by rank: {}", held.join(", ")));
        }
        lines.extend(self.rounding.as_ref().map(Rounding::line));
        lines.extend(self.verdict.iter().map(|verdict| format!("warning: {verdict}")));
        lines.push(format!("report: {}", self.output_dir.join("report.html").display()));
        lines
    }
}

/// Formats the figures present in both rows, before and after; once if they are the same row.
fn change(what: &str, prefix: &str, first: &MetricsRow, last: &MetricsRow) -> Option<String> {
    let figures = [
        ("loss", "loss", 1.0, ""),
        ("accuracy", "rewards/accuracies", 100.0, " %"),
        ("margin", "rewards/margins", 1.0, ""),
        ("chosen against the reference", "log_ratios/chosen", 1.0, " nats"),
    ];
    let is_one = first.get("step") == last.get("step");
    let figure = |(label, name, scale, unit): (&str, &str, f64, &str)| {
        let value = |row: &MetricsRow| row.get(&format!("{prefix}{name}")).map(|value| value * scale);
        let (before, after) = (value(first)?, value(last)?);
        let decimals = if scale > 1.0 { 1 } else { 4 };
        if is_one {
            return Some(format!("{label} {after:.decimals$}{unit}"));
        }
        Some(format!("{label} {before:.decimals$} -> {after:.decimals$}{unit}"))
    };
    let listed: Vec<String> = figures.into_iter().filter_map(figure).collect();
    let rows = if is_one { "one row of metrics" } else { "first to last" };
    (!listed.is_empty()).then(|| format!("{what}, {rows}: {}", listed.join(", ")))
}

/// A count with thousands separated, and its noun.
fn count(count: usize, noun: &str) -> String {
    format!("{} {}", format_count(count), noun_for(count, noun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_shows_what_changed() {
        let row = |step: u64, loss: f64, prefix: &str| {
            let mut row = MetricsRow::default();
            row.set_count("step", step);
            row.set(&format!("{prefix}loss"), loss);
            row.set(&format!("{prefix}rewards/accuracies"), loss / 2.0);
            row
        };
        let summary = TrainSummary {
            output_dir: "runs/a".into(),
            num_steps: 1200,
            num_groups: 4,
            base_hash: None,
            first: Some(row(1, 1.0, "")),
            last: Some(row(1200, 0.5, "")),
            evaluations: vec![row(0, 1.0, "eval_"), row(1200, 0.25, "eval_")],
            best: Some(SavedBest { step: 600, line: "the best".to_owned() }),
            num_skipped_steps: 0,
            rounding: None,
            chosen_alarm: None,
            verdict: None,
            seconds: 61.4,
            sample_seconds: 2.04,
            rank_memory: vec![512 << 20, 768 << 20],
        };
        assert_eq!(
            summary.lines(),
            [
                "1,200 steps in 61 s, sample answers 2.0 s",
                "training, first to last: loss 1.0000 -> 0.5000, accuracy 50.0 -> 25.0 %",
                "held out, first to last: loss 1.0000 -> 0.2500, accuracy 50.0 -> 12.5 %",
                "the best",
                "most memory by rank: 512.0 MiB, 768.0 MiB",
                "report: runs/a/report.html",
            ]
        );
    }

    #[test]
    fn figures_of_one_row_are_said_once() {
        let mut row = MetricsRow::default();
        row.set_count("step", 6);
        row.set("loss", 0.5);
        assert_eq!(change("training", "", &row, &row).as_deref(), Some("training, one row of metrics: loss 0.5000"));
    }
}
