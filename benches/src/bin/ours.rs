//! Our side of a benchmark: trains from a recipe, one step per `step` on standard input.
//!
//! Prints one line of JSON once loaded (with the seconds of reference scoring, by step), one per step, and one at `quit`,
//! which ends the process before anything is saved.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
// Registers the objectives, and links the same crates as the program.
use collimate as _;
use collimate_benches::machine::peak_bytes;
use collimate_report::MetricsRow;
use collimate_train::progress::StepPosition;
use collimate_train::{Observer, RunControl, load_recipe, train};
use serde_json::{Value, json};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let path: PathBuf = std::env::args_os().nth(1).context("the recipe's path is missing")?.into();
    let recipe = load_recipe(Some(&path), &[])?;
    let mut stepper = Stepper::new();
    train(&recipe, &mut stepper, &RunControl::default())?;
    ensure!(!stepper.in_reference, "the run ended while it scored the reference");
    Ok(())
}

/// Blocks training between steps until the next one is requested.
struct Stepper {
    began: Instant,
    /// Time of the last step's command, or of the last pack of the reference.
    since: Instant,
    reference_seconds: Vec<f64>,
    in_reference: bool,
    tokens: f64,
}

impl Stepper {
    fn new() -> Self {
        let now = Instant::now();
        Self { began: now, since: now, reference_seconds: Vec::new(), in_reference: false, tokens: 0.0 }
    }

    fn lap(&mut self) -> f64 {
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        seconds
    }

    /// Writes an answer and waits for the next command.
    fn answer(&mut self, line: &Value) {
        say(line);
        let mut command = String::new();
        let read = stdin().lock().read_line(&mut command);
        match command.trim() {
            "step" => self.since = Instant::now(),
            _ => {
                if matches!(read, Ok(n) if n > 0) {
                    say(&json!({"peak_rss_bytes": peak_bytes(std::process::id())}));
                }
                std::process::exit(0);
            }
        }
    }
}

fn say(line: &Value) {
    let mut out = stdout().lock();
    // If the other end is gone, the next read ends the process.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

impl Observer for Stepper {
    fn stage(&mut self, name: &str, _total: Option<u64>) {
        self.in_reference = name.starts_with("reference");
        self.since = Instant::now();
    }

    fn position(&mut self, _name: &str, position: &StepPosition) {
        if position.done == 0 {
            self.since = Instant::now();
            let seconds = self.began.elapsed().as_secs_f64();
            let reference = std::mem::take(&mut self.reference_seconds);
            self.answer(&json!({"ready_seconds": seconds, "reference_seconds": reference}));
        }
    }

    fn advance(&mut self, _n: u64) {
        if self.in_reference {
            let seconds = self.lap();
            self.reference_seconds.push(seconds);
        }
    }

    fn note(&mut self, text: &str) {
        eprintln!("{text}");
    }

    fn step(&mut self, row: &MetricsRow) {
        let seconds = self.lap();
        let total = row.get("num_tokens").unwrap_or(f64::NAN);
        let tokens = total - std::mem::replace(&mut self.tokens, total);
        let (loss, grad_norm) = (row.get("loss"), row.get("grad_norm"));
        self.answer(&json!({"seconds": seconds, "loss": loss, "grad_norm": grad_norm, "tokens": tokens}));
    }

    fn finish(&mut self) {
        self.in_reference = false;
    }
}
