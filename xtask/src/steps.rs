//! Named steps that run in sequence, even after a failure, and their summary.

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::words;

/// The steps so far.
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

/// A step that did not run, and why.
#[derive(Debug)]
struct LeftOut {
    name: String,
    reason: String,
}

impl Steps {
    /// Records a step that cannot run here, for the summary.
    pub(crate) fn leave_out(&mut self, name: &str, reason: String) {
        self.left_out.push(LeftOut { name: name.to_owned(), reason });
    }

    /// Runs a step and records how it ended. A failure does not stop later steps.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        eprintln!("\n==> {name}");
        let start = Instant::now();
        let error = step().err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            eprintln!("error: {error}");
        }
        self.done.push(Done { name: name.to_owned(), duration: start.elapsed(), error });
    }

    /// Prints the summary, adds it as a table to the page of a run on GitHub, and returns whether all steps passed.
    pub(crate) fn finish(&self) -> ExitCode {
        eprint!("\n{}", self.summary());
        if let Some(page) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|page| !page.is_empty())
            && let Err(error) = append(Path::new(&page), &self.table())
        {
            eprintln!("warning: no table of the steps: {error:#}");
        }
        if self.num_failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn num_failed(&self) -> usize {
        self.done.iter().filter(|done| done.error.is_some()).count()
    }

    pub(crate) fn summary(&self) -> String {
        let width = self.done.iter().map(|done| done.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for done in &self.done {
            let outcome = if done.error.is_some() { "FAILED" } else { "ok    " };
            text.push_str(&format!("  {outcome}  {:width$}  {:>6.1} s\n", done.name, done.duration.as_secs_f64()));
            if let Some(error) = &done.error {
                text.push_str(&format!("          {error}\n"));
            }
        }
        text.push_str(&format!("  total   {:width$}  {:>6.1} s\n", "", self.total().as_secs_f64()));
        let count = self.done.len();
        text.push_str(&match self.num_failed() {
            0 if count == 1 => "The one step passed.\n".to_owned(),
            0 => format!("All {count} steps passed.\n"),
            failed => format!("{failed} of {count} steps failed.\n"),
        });
        for LeftOut { name, reason } in &self.left_out {
            text.push_str(&format!("NOT RUN: {name} ({reason}).\n"));
        }
        text
    }

    /// The summary as a table in Markdown.
    fn table(&self) -> String {
        let mut text = "| step | result | seconds |\n|---|---|--:|\n".to_owned();
        for done in &self.done {
            let result = if done.error.is_some() { "**failed**" } else { "ok" };
            text.push_str(&format!("| {} | {result} | {:.0} |\n", done.name, done.duration.as_secs_f64()));
        }
        for LeftOut { name, reason } in &self.left_out {
            text.push_str(&format!("| {name} | not run: {} | |\n", reason.replace(['|', '\n'], " ")));
        }
        text.push_str(&format!("| total | | {:.0} |\n", self.total().as_secs_f64()));
        text
    }

    fn total(&self) -> Duration {
        self.done.iter().map(|done| done.duration).sum()
    }
}

fn append(file: &Path, text: &str) -> Result<()> {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
    let written = opened.and_then(|mut opened| opened.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", file.display()))
}

/// Runs a command to its end.
///
/// # Errors
/// It cannot be started, or it fails; the message has the command for repeating it.
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
    fn the_table_has_a_row_a_step_and_the_total() {
        let mut steps = Steps::default();
        steps.run("first", || bail!("no luck"));
        steps.run("second", || Ok(()));
        steps.leave_out("third", "a | b".to_owned());
        let expected = "| step | result | seconds |\n|---|---|--:|\n| first | **failed** | 0 |\n| second | ok | 0 |\n\
                        | third | not run: a   b | |\n| total | | 0 |\n";
        assert_eq!(steps.table(), expected);
    }

    #[test]
    fn what_was_left_out_ends_the_summary_and_fails_nothing() {
        let mut steps = Steps::default();
        steps.leave_out("tests of x", "y is not there".to_owned());
        steps.run("first", || Ok(()));
        assert_eq!(steps.num_failed(), 0);
        let summary = steps.summary();
        assert!(summary.ends_with("The one step passed.\nNOT RUN: tests of x (y is not there).\n"), "{summary}");
    }

    #[test]
    fn a_failed_command_is_an_error_that_repeats_it() {
        let error = execute(Command::new("false").arg("x")).expect_err("false fails");
        assert!(error.to_string().ends_with(": false x"), "{error}");
    }
}
