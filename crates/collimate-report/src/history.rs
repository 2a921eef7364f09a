//! A run's rows as its pages need them: in bounded memory, however long the run was.

mod column;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::column::Column;
use crate::alarm::ChosenAlarm;
use crate::metrics::MetricsRow;
use crate::verdict::{Judge, RunFacts, Verdict};

/// Figures that pages show, of training and, with `eval_` before them, of held-out data. What rows have besides is not kept.
const FIGURES: [&str; 20] = [
    "step",
    "epoch",
    "loss",
    "aux_loss",
    "grad_norm",
    "learning_rate",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "log_ratios/chosen",
    "lengths/chosen",
    "lengths/rejected",
    "lengths/correlation",
    "lengths/reward_correlation",
    "weights/entropy",
    "num_tokens",
    "memory_bytes",
];

/// Implicit rewards by rank, `rewards/rank_K`.
const RANK: &str = "rewards/rank_";

/// Most ranks that are kept; no objective takes more responses.
pub(crate) const MOST_RANKS: usize = 4096;

/// Points of all lines together: 64 MiB. A run with up to 65,536 rows of 8 responses is kept as it is.
const MOST_POINTS: usize = 1 << 22;

/// The figures of a run over its steps, and what follows from them.
///
/// Lines of more points than there is room for are thinned: neighbors are averaged, always the same ones. The first and last
/// value of a figure and the means of whole runs stay exact.
#[derive(Debug, Clone)]
pub struct History {
    figures: BTreeMap<&'static str, Column>,
    held_out: BTreeMap<&'static str, Column>,
    ranks: Vec<Column>,
    rates: Column,
    /// Step and tokens of the last row that has a time.
    timed: (f64, f64),
    /// Seconds of all steps, and their number.
    seconds: (f64, usize),
    progress: Option<Progress>,
    judge: Judge,
    alarm: ChosenAlarm,
    warning: Option<String>,
    facts: RunFacts,
}

/// The last recorded step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Progress {
    pub(crate) step: f64,
    pub(crate) epoch: Option<f64>,
    pub(crate) num_tokens: Option<f64>,
}

impl History {
    /// A run without rows yet.
    pub fn new(facts: RunFacts) -> Self {
        Self {
            figures: BTreeMap::new(),
            held_out: BTreeMap::new(),
            ranks: Vec::new(),
            rates: Column::default(),
            timed: (0.0, 0.0),
            seconds: (0.0, 0),
            progress: None,
            judge: Judge::default(),
            alarm: ChosenAlarm::new(&facts),
            warning: None,
            facts,
        }
    }

    /// A run with these rows.
    pub fn from_rows<'a>(rows: impl IntoIterator<Item = &'a MetricsRow>, facts: RunFacts) -> Self {
        let mut history = Self::new(facts);
        rows.into_iter().for_each(|row| history.push(row));
        history
    }

    /// Adds a row of a step or an evaluation.
    pub fn push(&mut self, row: &MetricsRow) {
        self.judge.feed(row);
        if let Some(warning) = self.alarm.feed(row) {
            self.warning = Some(warning);
        }
        let (room, step) = (self.room(), row.get("step"));
        for name in row.names() {
            let Some(value) = row.get(name) else { continue };
            if let Some(column) = self.column(name) {
                column.push(step, value, room);
            }
        }
        self.push_rate(row, room);
        if row.get("loss").is_some() {
            let step = step.unwrap_or(0.0);
            self.progress = Some(Progress { step, epoch: row.get("epoch"), num_tokens: row.get("num_tokens") });
            if let Some(seconds) = row.get("step_seconds") {
                self.seconds = (self.seconds.0 + seconds, self.seconds.1 + 1);
            }
        }
    }

    /// Tokens a second of a row's step.
    fn push_rate(&mut self, row: &MetricsRow, room: usize) {
        let figure = |name| row.get(name);
        let (Some(step), Some(tokens), Some(seconds)) = (figure("step"), figure("num_tokens"), figure("step_seconds"))
        else {
            return;
        };
        // The time is that of one step; the tokens are those of all since the row before.
        let rate = (tokens - self.timed.1) / (step - self.timed.0) / seconds;
        self.timed = (step, tokens);
        if rate.is_finite() && rate >= 0.0 {
            self.rates.push(Some(step), rate, room);
        }
    }

    /// The line of a figure; `None` if no page shows it.
    fn column(&mut self, name: &str) -> Option<&mut Column> {
        if let Some(rank) = name.strip_prefix(RANK) {
            let rank = rank.parse::<usize>().ok().filter(|&rank| rank < MOST_RANKS)?;
            if self.ranks.len() <= rank {
                self.ranks.resize(rank + 1, Column::default());
            }
            return self.ranks.get_mut(rank);
        }
        let known = |name: &str| FIGURES.iter().find(|figure| **figure == name).copied();
        match (known(name), name.strip_prefix("eval_").and_then(known)) {
            (Some(figure), _) => Some(self.figures.entry(figure).or_default()),
            (None, Some(figure)) => Some(self.held_out.entry(figure).or_default()),
            (None, None) => None,
        }
    }

    /// Most points of a line, while there are as many lines as now.
    fn room(&self) -> usize {
        let lines = self.figures.len() + self.held_out.len() + self.ranks.len() + 1;
        MOST_POINTS / lines.next_power_of_two()
    }

    fn find(&self, name: &str) -> Option<&Column> {
        match name.strip_prefix("eval_") {
            Some(figure) => self.held_out.get(figure),
            None => self.figures.get(name),
        }
    }

    /// The points of one figure over steps.
    pub(crate) fn points(&self, name: &str) -> Vec<(f64, f64)> {
        self.find(name).map(Column::points).unwrap_or_default()
    }

    /// First and last value of a figure; `None` if no row has it.
    pub(crate) fn ends(&self, name: &str) -> Option<(f64, f64)> {
        self.find(name)?.ends()
    }

    /// The points of each rank's implicit rewards, from the best on, as far as every rank has some.
    pub(crate) fn ranks(&self) -> impl Iterator<Item = Vec<(f64, f64)>> {
        self.ranks.iter().map(Column::points).take_while(|points| !points.is_empty())
    }

    /// Tokens a second over the steps that were recorded.
    pub(crate) fn rates(&self) -> Vec<(f64, f64)> {
        self.rates.points()
    }

    /// The mean of the tokens a second; `None` without any.
    pub(crate) fn mean_rate(&self) -> Option<f64> {
        self.rates.mean()
    }

    /// Mean seconds of a step; `None` if no row says.
    pub(crate) fn mean_seconds(&self) -> Option<f64> {
        let (sum, count) = self.seconds;
        (sum > 0.0).then(|| sum / count as f64)
    }

    /// The last recorded step; `None` before the first.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.progress
    }

    /// What went wrong with the run, if anything did.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.judge.verdict(&self.facts)
    }

    /// The last warning that the chosen responses lose likelihood.
    pub(crate) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}
