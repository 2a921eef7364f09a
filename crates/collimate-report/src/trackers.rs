//! Experiment trackers: wandb, mlflow and trackio get each row of metrics through their own Python package.
//!
//! A short program passes lines of JSON on to the package. It is a copy of the metrics and no record: a tracker that is missing
//! or dies is a warning, since `metrics.jsonl` has all of it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::metrics::MetricsRow;

/// The program that passes rows on.
const BRIDGE: &str = include_str!("trackers/bridge.py");

/// Environment variable that names the Python with the tracker's package; without it, `python3`.
const PYTHON: &str = "COLLIMATE_PYTHON";

/// How long a tracker may take to begin, such as to log in.
const LONGEST_START: Duration = Duration::from_secs(60);

/// How long a tracker may take to send what it has when a run ends.
const LONGEST_END: Duration = Duration::from_secs(60);

/// A tracker that receives the rows of a run.
#[derive(Debug)]
pub struct Tracker {
    child: Child,
    rows: Option<Sender<String>>,
    writer: Option<JoinHandle<()>>,
}

/// What a tracker shows of a run.
#[derive(Debug, Clone, Copy)]
pub struct TrackedRun<'a> {
    /// Name of the run.
    pub name: &'a str,
    /// What tells it from other runs of that name; a resumed run has the same.
    pub id: &'a str,
    /// The resolved recipe.
    pub recipe_yaml: &'a str,
}

/// Starts the trackers of these names; also returns why some do not start.
pub fn start(names: &[String], run: TrackedRun<'_>) -> (Vec<Tracker>, Vec<String>) {
    let (mut trackers, mut problems) = (Vec::new(), Vec::new());
    for name in names {
        match Tracker::start(name, run) {
            Ok(tracker) => trackers.push(tracker),
            Err(problem) => problems.push(problem),
        }
    }
    (trackers, problems)
}

impl Tracker {
    /// Starts the tracker of this name.
    ///
    /// # Errors
    /// Why it does not start, with what to do about it.
    pub fn start(name: &str, run: TrackedRun<'_>) -> Result<Self, String> {
        let python = std::env::var_os(PYTHON).unwrap_or_else(|| "python3".into());
        Self::start_with(&python, name, run).map_err(|reason| {
            format!(
                "metrics do not go to {name}: {reason}; to have them there, `pip install {name}` for {} (or name another Python \
                 in {PYTHON}) and log in; `report_to: none` asks for nothing; metrics.jsonl has every figure",
                python.display()
            )
        })
    }

    fn start_with(python: &OsStr, name: &str, run: TrackedRun<'_>) -> Result<Self, String> {
        let mut command = Command::new(python);
        command.args(["-c", BRIDGE, name]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", python.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both are piped")
        };
        let (sender, receiver) = channel();
        let writer = std::thread::spawn(move || write_lines(input, &receiver));
        let mut tracker = Self { child, rows: Some(sender), writer: Some(writer) };
        let recipe: Value = serde_yaml_ng::from_str(run.recipe_yaml).unwrap_or_default();
        tracker.send(json!({"name": run.name, "id": run.id, "recipe": recipe}).to_string());
        let (answers, answer) = channel();
        std::thread::spawn(move || answers.send(BufReader::new(output).lines().map_while(Result::ok).find_map(said)));
        match answer.recv_timeout(LONGEST_START) {
            Ok(Some(text)) if text == "ready" => Ok(tracker),
            Ok(Some(reason)) => Err(reason),
            Ok(None) => Err("it ended at once".to_owned()),
            Err(_) => {
                let _ = tracker.child.kill();
                Err(format!("it did not begin within {} seconds", LONGEST_START.as_secs()))
            }
        }
    }

    /// Passes a row on. Returns at once; rows wait where the tracker is slow, and are dropped where it has died.
    pub fn row(&mut self, row: &MetricsRow) {
        self.send(row.to_json());
    }

    fn send(&mut self, line: String) {
        if let Some(rows) = &self.rows {
            let _ = rows.send(line);
        }
    }
}

impl Drop for Tracker {
    /// Ends the tracker once it has sent everything, or has taken too long.
    fn drop(&mut self) {
        self.rows = None;
        let begun = Instant::now();
        while begun.elapsed() < LONGEST_END && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// What the program itself says among the lines of its package.
fn said(line: String) -> Option<String> {
    line.strip_prefix("collimate: ").map(str::to_owned)
}

fn write_lines(mut input: ChildStdin, rows: &Receiver<String>) {
    for row in rows {
        if writeln!(input, "{row}").and_then(|()| input.flush()).is_err() {
            return;
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const RUN: TrackedRun<'_> = TrackedRun { name: "first", id: "first-1", recipe_yaml: "seed: 7\n" };

    /// A program in place of Python.
    fn program(folder: &std::path::Path, script: &str) -> std::path::PathBuf {
        let path = folder.join("python");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
        path
    }

    #[test]
    fn a_tracker_gets_the_run_and_then_every_row() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("out");
        let script =
            format!("echo 'of the package'; echo 'collimate: ready'; echo \"$3\" > {0}; cat >> {0}", out.display());
        let mut tracker =
            Tracker::start_with(program(folder.path(), &script).as_os_str(), "wandb", RUN).expect("a tracker");
        for step in 1..=1000 {
            let mut row = MetricsRow::default();
            row.set_count("step", step);
            tracker.row(&row);
        }
        drop(tracker);
        let text = std::fs::read_to_string(out).expect("what it got");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["wandb", "{\"name\":\"first\",\"id\":\"first-1\",\"recipe\":{\"seed\":7}}"]);
        assert_eq!((lines.len(), lines[1001]), (1002, "{\"step\":1000}"));
    }

    #[test]
    fn a_tracker_that_does_not_start_says_why() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (script, reason) in [
            (
                "echo 'collimate: ModuleNotFoundError: No module named wandb'",
                "ModuleNotFoundError: No module named wandb",
            ),
            ("exit 3", "it ended at once"),
        ] {
            let found = Tracker::start_with(program(folder.path(), script).as_os_str(), "wandb", RUN);
            assert_eq!(found.expect_err("no tracker"), reason);
        }
        let missing = Tracker::start_with(OsStr::new("/nowhere/python"), "wandb", RUN).expect_err("no program");
        assert!(missing.starts_with("/nowhere/python: "), "{missing}");
    }

    #[test]
    fn a_tracker_that_dies_is_passed_over() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = program(folder.path(), "echo 'collimate: ready'; exit 1");
        let mut tracker = Tracker::start_with(path.as_os_str(), "wandb", RUN).expect("a tracker");
        (0..100).for_each(|_| tracker.row(&MetricsRow::default()));
    }
}
