//! Shows how far a run is: a bar on a terminal, lines elsewhere, and a log file beside either.
//!
//! ```text
//! stages    what is under way: a stage, and the steps that it interrupts
//! draw      one line of it, as a function of the state and the width
//! forecast  the time that is left, from what each kind of work took so far
//! pace      a run's speed, what it has left to do, and when a checkpoint is due
//! rank_share  what each of several ranks did of a step, and which was slowest
//! bar       draws the line on a terminal
//! lines     writes it where nothing can be redrawn
//! log_file  writes lines with their time to a file
//! summary   what a finished run came to, in lines
//! wrap      breaks lines between words
//! format    sizes, counts, rates and times for people
//! ```
//!
//! Start with [`Observer`], which runs report to. The crate must not know what a run computes.
//!
//! ```
//! use collimate_progress::{LineObserver, Observer};
//!
//! let mut text = Vec::new();
//! let mut observer = LineObserver::new(&mut text);
//! observer.stage("reading data.jsonl", Some(3));
//! observer.advance(3);
//! observer.finish();
//! drop(observer);
//! assert!(String::from_utf8_lossy(&text).starts_with("reading data.jsonl (3)\nreading data.jsonl: 3/3 in "));
//! ```

mod bar;
mod draw;
mod forecast;
mod format;
mod lines;
mod log_file;
mod pace;
mod rank_share;
mod stages;
mod summary;
mod wrap;

use collimate_report::MetricsRow;

pub use bar::BarObserver;
pub use forecast::{Forecast, Work};
pub use format::{format_bytes, format_count, format_seconds};
pub use lines::LineObserver;
pub use log_file::LogFile;
pub use pace::{Agenda, Pace};
pub use rank_share::{RankShare, add_speed, straggler};
pub use stages::resident_bytes;
pub use summary::{SavedBest, TrainSummary};
pub use wrap::{terminal_width, wrap};

/// Receives a run's progress: a terminal, a log, a test.
pub trait Observer: Send {
    /// A stage begins: loading, scoring the reference, evaluating. `total` is its number of items, if known.
    fn stage(&mut self, name: &str, total: Option<u64>);
    /// `n` more of the stage's items are done.
    fn advance(&mut self, n: u64);
    /// A message for the user.
    fn note(&mut self, text: &str);
    /// An optimizer step or an evaluation produced this row.
    fn step(&mut self, row: &MetricsRow);
    /// The steps of a run are at this position. The first call begins them as a stage; others, evaluations for example, may
    /// interrupt it. By default ignored.
    fn position(&mut self, name: &str, position: &StepPosition) {
        let _ = (name, position);
    }
    /// The last stage ended.
    fn finish(&mut self);
}

/// How far the steps of a run are, over all its resumptions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepPosition {
    /// Finished steps.
    pub done: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// Seconds of a recent step; `None` before one was timed.
    pub step_seconds: Option<f64>,
    /// Tokens of a recent second of steps.
    pub tokens_per_second: Option<f64>,
    /// Seconds to the end of the run, with evaluations, checkpoints and sample answers.
    pub left_seconds: Option<f64>,
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

/// Reports to two observers, such as a terminal and a log file.
pub struct Both<'a>(pub Box<dyn Observer + 'a>, pub Box<dyn Observer + 'a>);

impl std::fmt::Debug for Both<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Both")
    }
}

impl Observer for Both<'_> {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        self.0.stage(name, total);
        self.1.stage(name, total);
    }

    fn advance(&mut self, n: u64) {
        self.0.advance(n);
        self.1.advance(n);
    }

    fn note(&mut self, text: &str) {
        self.0.note(text);
        self.1.note(text);
    }

    fn step(&mut self, row: &MetricsRow) {
        self.0.step(row);
        self.1.step(row);
    }

    fn position(&mut self, name: &str, position: &StepPosition) {
        self.0.position(name, position);
        self.1.position(name, position);
    }

    fn finish(&mut self) {
        self.0.finish();
        self.1.finish();
    }
}
