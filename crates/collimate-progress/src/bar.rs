//! The bar on a terminal.

use std::fmt::Write;
use std::io::{Write as _, stderr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use collimate_report::MetricsRow;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::stages::Stages;
use crate::wrap::{terminal_width, wrap};
use crate::{Observer, StepPosition};

/// How often the line is drawn.
const TICK: Duration = Duration::from_millis(200);

/// A line with a bar, rates and the time left, redrawn on standard error; what ended stays above it as lines.
#[derive(Debug)]
pub struct BarObserver {
    bar: ProgressBar,
    stages: Arc<Mutex<Stages>>,
}

impl BarObserver {
    /// A bar that stays hidden until the first stage begins.
    pub fn new() -> Self {
        Self { bar: ProgressBar::hidden(), stages: Arc::default() }
    }

    fn stages(&self) -> MutexGuard<'_, Stages> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the bar if it is hidden.
    fn show(&mut self) {
        if !self.bar.is_hidden() && !self.bar.is_finished() {
            return;
        }
        self.bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let stages = Arc::clone(&self.stages);
        let line = move |_: &ProgressState, text: &mut dyn Write| {
            let view = stages.lock().unwrap_or_else(PoisonError::into_inner).view();
            let line = view.map(|view| view.bar_line(terminal_width()).colored());
            let _ = text.write_str(&line.unwrap_or_default());
        };
        let style = ProgressStyle::with_template("{line}").unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar.set_style(style.with_key("line", line));
        self.bar.enable_steady_tick(TICK);
    }

    fn print(&self, text: &str) {
        let text = wrap(text, terminal_width());
        // `eprintln` panics if nobody reads standard error any more.
        self.bar.suspend(|| {
            let _ = writeln!(stderr(), "{text}");
        });
    }
}

impl Default for BarObserver {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for BarObserver {
    /// Clears the line of a stage that an error ended.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for BarObserver {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        if self.stages().in_stage() {
            self.finish();
        }
        self.stages().begin(name, total);
        self.show();
    }

    fn advance(&mut self, n: u64) {
        self.stages().advance(n);
    }

    fn note(&mut self, text: &str) {
        self.print(text);
    }

    fn step(&mut self, row: &MetricsRow) {
        self.stages().row(row);
    }

    fn position(&mut self, name: &str, position: &StepPosition) {
        if self.stages().position(name, position) {
            self.show();
        }
    }

    fn finish(&mut self) {
        // The lock must be free when the bar is drawn.
        let line = self.stages().finish();
        let is_idle = self.stages().is_idle();
        if is_idle {
            self.bar.finish_and_clear();
        }
        if let Some(line) = line {
            self.print(&line);
        }
    }
}
