//! Named steps that run in sequence, even after a failure, or beside the others, and their summary.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::workspace::words;

/// The steps so far.
#[derive(Debug)]
pub(crate) struct Steps {
    start: Instant,
    done: Vec<Done>,
    beside: Vec<Beside>,
    left_out: Vec<LeftOut>,
}

/// A step that runs beside the others.
#[derive(Debug)]
struct Beside {
    name: String,
    /// What it prints, shown when it has ended.
    log: PathBuf,
    thread: JoinHandle<(Duration, Result<()>)>,
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
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), done: Vec::new(), beside: Vec::new(), left_out: Vec::new() }
    }

    /// Records a step that cannot run here, for the summary.
    pub(crate) fn leave_out(&mut self, name: &str, reason: String) {
        self.left_out.push(LeftOut { name: name.to_owned(), reason });
    }

    /// Runs a step and records how it ended. A failure does not stop later steps.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) {
        eprintln!("\n==> {name}");
        let start = Instant::now();
        let result = step();
        self.record(name.to_owned(), start.elapsed(), result);
    }

    /// Starts a step that prints to `log`, beside those that follow; [`Steps::finish`] waits for it.
    ///
    /// # Errors
    /// The log cannot be made.
    pub(crate) fn start_beside(
        &mut self,
        name: &str,
        log: PathBuf,
        step: impl FnOnce(&File) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        eprintln!("\n==> {name}\n    beside the next steps; prints to {}", log.display());
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            let result = step(&output);
            (start.elapsed(), result)
        });
        self.beside.push(Beside { name: name.to_owned(), log, thread });
        Ok(())
    }

    fn record(&mut self, name: String, duration: Duration, result: Result<()>) {
        let error = result.err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            eprintln!("error: {error}");
        }
        self.done.push(Done { name, duration, error });
    }

    /// Waits for steps beside the others, and shows what they printed.
    fn wait(&mut self) {
        for Beside { name, log, thread } in std::mem::take(&mut self.beside) {
            let (duration, result) =
                thread.join().unwrap_or_else(|_| (Duration::ZERO, Err(anyhow::anyhow!("the step panicked"))));
            eprintln!("\n==> {name}");
            match std::fs::read(&log) {
                Ok(printed) => eprint!("{}", String::from_utf8_lossy(&printed)),
                Err(error) => eprintln!("warning: cannot read {}: {error}", log.display()),
            }
            self.record(name, duration, result);
        }
    }

    /// Waits for the steps that still run, prints the summary, adds it as a table to the page of a run on GitHub, and returns
    /// whether all steps passed.
    pub(crate) fn finish(&mut self) -> ExitCode {
        self.wait();
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

    /// Time since the first step; less than the sum where steps ran beside others.
    fn total(&self) -> Duration {
        self.start.elapsed()
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
    finished(command)
}

/// Runs a command to its end; it prints to `log`, or else to the terminal.
///
/// # Errors
/// As [`execute`], or the log cannot be written.
pub(crate) fn execute_into(command: &mut Command, log: Option<&File>) -> Result<()> {
    let Some(mut log) = log else { return execute(command) };
    writeln!(log, "    {}", words(command)).context("cannot write the log of a step")?;
    let copy = || log.try_clone().context("cannot write the log of a step");
    finished(command.stdout(copy()?).stderr(copy()?))
}

fn finished(command: &mut Command) -> Result<()> {
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
        let mut steps = Steps::new();
        steps.run("first", || bail!("no luck"));
        steps.run("second one", || Ok(()));
        let summary = steps.summary();
        assert!(summary.contains("FAILED  first       "), "{summary}");
        assert!(summary.contains("no luck"), "{summary}");
        assert!(summary.contains("ok      second one"), "{summary}");
        assert!(summary.ends_with("1 of 2 steps failed.\n"), "{summary}");
    }

    #[test]
    fn a_step_beside_others_is_waited_for_and_summed_up() {
        let log = std::env::temp_dir().join(format!("xtask-beside-{}", std::process::id()));
        let mut steps = Steps::new();
        let (tell, told) = std::sync::mpsc::channel();
        let step = move |output: &File| {
            told.recv().expect("a word");
            execute_into(&mut Command::new("no-such-program"), Some(output))
        };
        steps.start_beside("beside", log.clone(), step).expect("a log");
        steps.run("next", || Ok(()));
        tell.send(()).expect("a listener");
        steps.wait();
        let printed = std::fs::read_to_string(&log).expect("a log");
        std::fs::remove_file(&log).expect("a log");
        assert_eq!(printed, "    no-such-program\n");
        let summary = steps.summary();
        assert!(summary.contains("ok      next") && summary.contains("FAILED  beside"), "{summary}");
        assert!(summary.contains("cannot start no-such-program"), "{summary}");
    }

    #[test]
    fn the_table_has_a_row_a_step_and_the_total() {
        let mut steps = Steps::new();
        steps.run("first", || bail!("no luck"));
        steps.run("second", || Ok(()));
        steps.leave_out("third", "a | b".to_owned());
        let expected = "| step | result | seconds |\n|---|---|--:|\n| first | **failed** | 0 |\n| second | ok | 0 |\n\
                        | third | not run: a   b | |\n| total | | 0 |\n";
        assert_eq!(steps.table(), expected);
    }

    #[test]
    fn what_was_left_out_ends_the_summary_and_fails_nothing() {
        let mut steps = Steps::new();
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
