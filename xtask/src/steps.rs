//! A list of named steps, each run whatever the others did, and what came of them.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::words;

/// What has been run so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<Done>,
    left_out: Vec<LeftOut>,
}

#[derive(Debug)]
struct Done {
    name: String,
    duration: Duration,
    error: Option<String>,
}

/// What would have been run, and why it was not.
#[derive(Debug)]
struct LeftOut {
    name: String,
    reason: String,
}

impl Steps {
    /// Notes what this run cannot do; the summary says it.
    pub(crate) fn leave_out(&mut self, name: &str, reason: String) {
        self.left_out.push(LeftOut { name: name.to_owned(), reason });
    }

    /// Runs one step and notes its outcome; the next steps run even if it fails.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        eprintln!("\n==> {name}");
        let start = Instant::now();
        let error = step().err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            eprintln!("error: {error}");
        }
        self.done.push(Done { name: name.to_owned(), duration: start.elapsed(), error });
    }

    /// Prints a line a step and says whether all passed.
    pub(crate) fn finish(&self) -> ExitCode {
        eprint!("\n{}", self.summary());
        if self.num_failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn num_failed(&self) -> usize {
        self.done.iter().filter(|done| done.error.is_some()).count()
    }

    fn summary(&self) -> String {
        let width = self.done.iter().map(|done| done.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for done in &self.done {
            let outcome = if done.error.is_some() { "FAILED" } else { "ok    " };
            text.push_str(&format!("  {outcome}  {:width$}  {:>6.1} s\n", done.name, done.duration.as_secs_f64()));
            if let Some(error) = &done.error {
                text.push_str(&format!("          {error}\n"));
            }
        }
        let count = self.done.len();
        text.push_str(&match self.num_failed() {
            0 => format!("All {count} steps passed.\n"),
            failed => format!("{failed} of {count} steps failed.\n"),
        });
        for LeftOut { name, reason } in &self.left_out {
            text.push_str(&format!("NOT RUN: {name} ({reason}).\n"));
        }
        text
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started, or it fails; the message is the command to repeat.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    eprintln!("    {}", words(command));
    let status = command.status().with_context(|| format!("cannot start {}", words(command)))?;
    if !status.success() {
        bail!("failed ({status}): {}", words(command));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_stops_no_other_and_is_summed_up() {
        let mut steps = Steps::default();
        steps.run("first", || bail!("no luck"));
        steps.run("second one", || Ok(()));
        let summary = steps.summary();
        assert!(summary.contains("FAILED  first       "), "{summary}");
        assert!(summary.contains("no luck"), "{summary}");
        assert!(summary.contains("ok      second one"), "{summary}");
        assert!(summary.ends_with("1 of 2 steps failed.\n"), "{summary}");
    }

    #[test]
    fn what_was_left_out_ends_the_summary_and_fails_nothing() {
        let mut steps = Steps::default();
        steps.leave_out("tests of x", "y is not there".to_owned());
        steps.run("first", || Ok(()));
        assert_eq!(steps.num_failed(), 0);
        let summary = steps.summary();
        assert!(summary.ends_with("All 1 steps passed.\nNOT RUN: tests of x (y is not there).\n"), "{summary}");
    }

    #[test]
    fn a_failed_command_is_an_error_that_repeats_it() {
        let error = execute(Command::new("false").arg("x")).expect_err("false fails");
        assert!(error.to_string().ends_with(": false x"), "{error}");
    }
}
