//! Reports a run's progress.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use collimate_report::MetricsRow;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::format::format_bytes;

/// Receives a run's progress: a terminal, a log, a test.
pub trait Observer: Send {
    /// A stage begins: loading, scoring the reference, training. `total` is its number of items, if known.
    fn stage(&mut self, name: &str, total: Option<u64>);
    /// `n` more of the stage's items are done.
    fn advance(&mut self, n: u64);
    /// A message for the user.
    fn note(&mut self, text: &str);
    /// An optimizer step or an evaluation produced this row.
    fn step(&mut self, row: &MetricsRow);
    /// The last stage ended.
    fn finish(&mut self);
}

/// Reports nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn stage(&mut self, _name: &str, _total: Option<u64>) {}
    fn advance(&mut self, _n: u64) {}
    fn note(&mut self, _text: &str) {}
    fn step(&mut self, _row: &MetricsRow) {}
    fn finish(&mut self) {}
}

/// The observer for standard error: a bar on a terminal, plain lines elsewhere.
pub fn stderr_observer() -> Box<dyn Observer> {
    if stderr().is_terminal() { Box::new(BarObserver::new()) } else { Box::new(LineObserver::new(stderr())) }
}

/// A progress bar with rate and time left, on standard error.
#[derive(Debug)]
pub struct BarObserver {
    bar: ProgressBar,
}

impl BarObserver {
    /// A bar that stays hidden until the first stage begins.
    pub fn new() -> Self {
        Self { bar: ProgressBar::hidden() }
    }
}

impl Default for BarObserver {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for BarObserver {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        self.finish();
        self.bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => {
                "{prefix:.bold} {wide_bar:.cyan/dim} {pos}/{len} {per_sec:.dim} {eta:>4} left {memory:.dim}  {msg}"
            }
            None => "{spinner:.cyan} {prefix:.bold} {pos} {elapsed} {memory:.dim} {msg}",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let memory = |_: &ProgressState, text: &mut dyn std::fmt::Write| {
            let _ = text.write_str(&memory().unwrap_or_default());
        };
        self.bar.set_style(style.with_key("memory", memory));
        self.bar.set_prefix(name.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&mut self, n: u64) {
        self.bar.inc(n);
    }

    fn note(&mut self, text: &str) {
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    fn step(&mut self, row: &MetricsRow) {
        self.bar.set_message(brief(row));
    }

    fn finish(&mut self) {
        if !self.bar.is_hidden() && !self.bar.is_finished() {
            self.bar.finish();
        }
    }
}

/// Plain lines: notes, the beginning and end of stages, and a status at most every two seconds.
#[derive(Debug)]
pub struct LineObserver<W> {
    out: W,
    stage: String,
    total: Option<u64>,
    done: u64,
    begun: Instant,
    written: Instant,
    message: String,
}

impl<W: std::io::Write + Send> LineObserver<W> {
    /// Writes to `out`. Failed writes are ignored, since progress must not end a run.
    pub fn new(out: W) -> Self {
        let now = Instant::now();
        Self { out, stage: String::new(), total: None, done: 0, begun: now, written: now, message: String::new() }
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
        self.written = Instant::now();
    }

    fn status(&mut self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let rate = self.done as f64 / seconds.max(1e-9);
        let position = match self.total {
            Some(total) => format!("{}/{total}", self.done),
            None => self.done.to_string(),
        };
        let left = match self.total {
            Some(total) if self.done > 0 => format!(", {:.0} s left", total.saturating_sub(self.done) as f64 / rate),
            _ => String::new(),
        };
        let message = if self.message.is_empty() { String::new() } else { format!("  {}", self.message) };
        let memory = memory().map(|memory| format!(", {memory}")).unwrap_or_default();
        let text = format!("{}: {position}, {rate:.1}/s{left}{memory}{message}", self.stage);
        self.line(&text);
    }

    fn status_if_due(&mut self) {
        if self.written.elapsed() >= Duration::from_secs(2) {
            self.status();
        }
    }
}

impl<W: std::io::Write + Send> Observer for LineObserver<W> {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        self.finish();
        (self.stage, self.total, self.done) = (name.to_owned(), total, 0);
        self.begun = Instant::now();
        self.message.clear();
        let of = total.map(|total| format!(" ({total})")).unwrap_or_default();
        self.line(&format!("{name}{of}"));
    }

    fn advance(&mut self, n: u64) {
        self.done += n;
        self.status_if_due();
    }

    fn note(&mut self, text: &str) {
        self.line(text);
    }

    fn step(&mut self, row: &MetricsRow) {
        self.message = brief(row);
        self.status_if_due();
    }

    fn finish(&mut self) {
        if !self.stage.is_empty() && self.done > 0 {
            self.status();
        }
        self.stage.clear();
    }
}

/// This process's resident memory, formatted; `None` if the system does not report it.
fn memory() -> Option<String> {
    memory_stats::memory_stats().map(|stats| format_bytes(stats.physical_mem as u64))
}

/// Loss, margin and accuracy in a few words.
fn brief(row: &MetricsRow) -> String {
    let part = |label: &str, names: [&str; 2]| {
        let value = names.iter().find_map(|name| row.get(name))?;
        Some(format!("{label} {value:.4}"))
    };
    let parts = [
        part("loss", ["loss", "eval_loss"]),
        part("margin", ["rewards/margins", "eval_rewards/margins"]),
        part("acc", ["rewards/accuracies", "eval_rewards/accuracies"]),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_show_stages_and_their_last_figures() {
        let mut out = Vec::new();
        let mut observer = LineObserver::new(&mut out);
        observer.stage("training", Some(4));
        let mut row = MetricsRow::default();
        row.set("loss", 0.5);
        observer.advance(4);
        observer.step(&row);
        observer.finish();
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("training (4)\ntraining: 4/4, ") && text.contains(" MiB  loss"), "{text}");
        assert!(text.ends_with("loss 0.5000\n"), "{text}");
    }
}
