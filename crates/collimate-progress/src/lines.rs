//! Plain lines, where nothing can be redrawn.

use std::io::Write;
use std::time::{Duration, Instant};

use collimate_report::MetricsRow;

use crate::stages::Stages;
use crate::{Observer, StepPosition};

/// Plain lines: notes, the beginning and end of stages, and a status every few seconds.
#[derive(Debug)]
pub struct LineObserver<W> {
    out: W,
    stages: Stages,
    written: Instant,
    interval: Duration,
}

impl<W: Write + Send> LineObserver<W> {
    /// Writes to `out`, a status at most every two seconds. Failed writes are ignored, since progress must not end a run.
    pub fn new(out: W) -> Self {
        Self { out, stages: Stages::default(), written: Instant::now(), interval: Duration::from_secs(2) }
    }

    /// The same with a status at most this often.
    pub fn with_interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
        self.written = Instant::now();
    }

    fn status(&mut self) {
        if let Some(view) = self.stages.view() {
            self.line(&view.status());
        }
    }

    fn status_if_due(&mut self) {
        if self.written.elapsed() >= self.interval {
            self.status();
        }
    }
}

impl<W: Write + Send> Observer for LineObserver<W> {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        if self.stages.in_stage() {
            self.finish();
        }
        self.stages.begin(name, total);
        let of = total.map(|total| format!(" ({total})")).unwrap_or_default();
        self.line(&format!("{name}{of}"));
    }

    fn advance(&mut self, n: u64) {
        self.stages.advance(n);
        self.status_if_due();
    }

    fn note(&mut self, text: &str) {
        self.line(text);
    }

    fn step(&mut self, row: &MetricsRow) {
        self.stages.row(row);
    }

    fn position(&mut self, name: &str, position: &StepPosition) {
        if self.stages.position(name, position) {
            let done = if position.done > 0 { format!(", {} done", position.done) } else { String::new() };
            self.line(&format!("{name} ({}{done})", position.total));
        } else {
            self.status_if_due();
        }
    }

    fn finish(&mut self) {
        if let Some(line) = self.stages.finish() {
            self.line(&line);
        }
        // Steps that go on after an evaluation.
        self.status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(run: impl FnOnce(&mut dyn Observer)) -> Vec<String> {
        let mut out = Vec::new();
        run(&mut LineObserver::new(&mut out));
        String::from_utf8(out).expect("text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_show_stages_and_their_last_figures() {
        let found = lines(|observer| {
            observer.stage("evaluation", Some(4));
            let mut row = MetricsRow::default();
            row.set("loss", 0.5);
            observer.advance(4);
            observer.step(&row);
            observer.finish();
        });
        assert_eq!(found[0], "evaluation (4)");
        assert_eq!(found[1..], ["evaluation: 4/4 in 0.0 s  loss 0.5000"]);
    }

    #[test]
    fn steps_are_counted_over_evaluations_and_resumptions() {
        let at = |done| StepPosition { done, total: 26, ..StepPosition::default() };
        let found = lines(|observer| {
            observer.position("training with nca", &at(5));
            observer.position("training with nca", &at(10));
            observer.stage("evaluation", Some(13));
            observer.advance(13);
            observer.finish();
            observer.position("training with nca", &at(26));
            observer.finish();
        });
        let starts = [
            "training with nca (26, 5 done)",
            "evaluation (13)",
            "evaluation after step 10: 13/13 in ",
            "training with nca: 10/26",
            "training with nca: 26/26 in ",
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        assert!(found.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{found:?}");
    }
}
