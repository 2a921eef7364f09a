//! Downloads as a stage of a command: a bar on a terminal, lines elsewhere, and lines in the log file.

use std::fmt;
use std::io::stderr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use collimate_hub::Watch;
use collimate_progress::{BarObserver, Both, LineObserver, LogFile, Observer, Silent};

/// Files below this size are shown only if they take long.
const SMALL_BYTES: u64 = 4_000_000;
/// How long a small file may take before it is shown.
const SHORT: Duration = Duration::from_secs(2);
/// How often there is a line about a download.
const INTERVAL: Duration = Duration::from_secs(10);

const MEGABYTE: u64 = 1_000_000;

/// Shows downloads on standard error.
pub(crate) struct Downloads(Mutex<Shown>);

struct Shown {
    observer: Box<dyn Observer>,
    file: String,
    done: u64,
    total: u64,
    begun: Instant,
    /// Megabytes that the observer was told of; `None` before it was told of the file.
    told: Option<u64>,
}

impl Downloads {
    /// Shows nothing until [`Self::show`] says where.
    pub(crate) fn hidden() -> Self {
        let (observer, begun) = (Box::new(Silent), Instant::now());
        Self(Mutex::new(Shown { observer, file: String::new(), done: 0, total: 0, begun, told: None }))
    }

    /// Shows downloads from now on: unless `quiet`, on standard error, and in the log file if there is one.
    pub(crate) fn show(&self, quiet: bool, is_terminal: bool, log: Option<&LogFile>) {
        let shown: Box<dyn Observer> = match (quiet, is_terminal) {
            (true, _) => Box::new(Silent),
            (false, true) => Box::new(BarObserver::new()),
            (false, false) => Box::new(LineObserver::new(stderr()).with_interval(INTERVAL)),
        };
        let observer = match log {
            Some(log) => Box::new(Both(shown, Box::new(LineObserver::new(log.clone()).with_interval(INTERVAL)))),
            None => shown,
        };
        self.with(|shown| shown.observer = observer);
    }

    fn with(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl fmt::Debug for Downloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Downloads")
    }
}

impl Watch for Downloads {
    fn begin(&self, file: &str, done: u64, total: u64) {
        self.with(|shown| {
            (shown.file, shown.done, shown.total) = (file.to_owned(), done, total);
            (shown.begun, shown.told) = (Instant::now(), None);
            shown.tell();
        });
    }

    fn advance(&self, bytes: u64) {
        self.with(|shown| {
            shown.done += bytes;
            shown.tell();
        });
    }

    fn note(&self, text: &str) {
        self.with(|shown| shown.observer.note(text));
    }

    fn end(&self) {
        self.with(|shown| {
            if shown.told.is_some() {
                shown.observer.finish();
            }
        });
    }
}

impl Shown {
    fn tell(&mut self) {
        if self.told.is_none() {
            if self.total < SMALL_BYTES && self.begun.elapsed() < SHORT {
                return;
            }
            let name = format!("downloading {}, MB", self.file);
            self.observer.stage(&name, Some(self.total.div_ceil(MEGABYTE)));
        }
        // The last megabyte is not a whole one.
        let done = if self.done >= self.total { self.total.div_ceil(MEGABYTE) } else { self.done / MEGABYTE };
        self.observer.advance(done.saturating_sub(self.told.unwrap_or(0)));
        self.told = Some(done.max(self.told.unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines about a download, without times.
    fn lines(run: impl FnOnce(&Downloads)) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let downloads = Downloads::hidden();
        downloads.show(true, false, Some(&LogFile::open(&path).expect("a log")));
        run(&downloads);
        let text = std::fs::read_to_string(path).expect("a log");
        text.lines().map(|line| line[20..].split(" in ").next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn a_large_file_is_a_stage_in_megabytes() {
        let found = lines(|downloads| {
            downloads.begin("org/m/model.safetensors", 1_000_000, 9_500_000);
            downloads.advance(4_600_000);
            downloads.note("org/m: model.safetensors: nothing arrived for 10 s; trying again");
            downloads.advance(3_900_000);
            downloads.end();
        });
        let expected = [
            "downloading org/m/model.safetensors, MB (10)",
            "org/m: model.safetensors: nothing arrived for 10 s; trying again",
            "downloading org/m/model.safetensors, MB: 10/10",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_small_file_is_not_worth_a_line_but_a_problem_is() {
        let found = lines(|downloads| {
            downloads.begin("org/m/config.json", 0, 600);
            downloads.note("org/m: config.json: the connection ended; trying again");
            downloads.advance(600);
            downloads.end();
        });
        assert_eq!(found, ["org/m: config.json: the connection ended; trying again"]);
    }
}
