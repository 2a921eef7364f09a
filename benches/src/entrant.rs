//! A process that takes training steps on command.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::machine::{CpuTime, peak_bytes};

/// A running entrant; it computes only between a command and its answer.
#[derive(Debug)]
pub struct Entrant {
    /// Its name in tables.
    pub label: String,
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Its first line.
    pub ready: Ready,
    /// Peak GPU memory, sampled after each step.
    pub peak_gpu_bytes: Option<u64>,
}

/// An entrant's first line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Seconds of loading and everything else before the first step.
    pub ready_seconds: f64,
    /// Seconds of scoring the reference for each step's groups, if that is done ahead.
    #[serde(default)]
    pub reference_seconds: Vec<f64>,
    /// CPU time of everything else on the machine meanwhile.
    #[serde(default)]
    pub other_cpu_seconds: Option<f64>,
    /// Versions of the libraries it uses.
    #[serde(default)]
    pub versions: Map<String, Value>,
}

/// An entrant's line for a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Wall-clock time.
    pub seconds: f64,
    /// Loss, mean over the prompts.
    pub loss: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// Tokens computed, padding included.
    pub tokens: f64,
    /// CPU time of the entrant: twice the wall-clock time when two cores are busy.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// CPU time of everything else on the machine meanwhile, which disturbs the step.
    #[serde(default)]
    pub other_cpu_seconds: Option<f64>,
}

impl Entrant {
    /// Starts a program and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or ends before it is ready. Its standard error goes to the terminal.
    pub fn start(label: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (commands, answers) = child.stdin.take().zip(child.stdout.take()).context("no pipes")?;
        let answers = BufReader::new(answers);
        let mut entrant =
            Self { label: label.to_owned(), child, commands, answers, ready: Ready::default(), peak_gpu_bytes: None };
        let before = CpuTime::read(entrant.child.id());
        let ready: Ready = entrant.answer()?;
        let spent = before.zip(CpuTime::read(entrant.child.id())).map(|(before, after)| after.since(&before));
        entrant.ready = Ready { other_cpu_seconds: spent.map(|(_, others)| others), ..ready };
        Ok(entrant)
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Takes one optimizer step.
    ///
    /// # Errors
    /// The program ended, or its loss or gradient is not a number.
    pub fn step(&mut self) -> Result<Step> {
        let before = CpuTime::read(self.child.id());
        writeln!(self.commands, "step").with_context(|| format!("{} is gone", self.label))?;
        let step: Step = self.answer()?;
        let spent = before.zip(CpuTime::read(self.child.id())).map(|(before, after)| after.since(&before));
        let (own, others) = spent.unzip();
        Ok(Step { cpu_seconds: own, other_cpu_seconds: others, ..step })
    }

    /// Ends the program and returns its peak resident memory.
    ///
    /// # Errors
    /// The program had already ended.
    pub fn quit(mut self) -> Result<u64> {
        let before = peak_bytes(self.child.id());
        writeln!(self.commands, "quit").with_context(|| format!("{} is gone", self.label))?;
        let last: Value = self.answer()?;
        self.child.wait()?;
        before.or(last["peak_rss_bytes"].as_u64()).with_context(|| format!("{}: memory is not known", self.label))
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("{} ended ({}); its messages are above", self.label, self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.label))
    }
}

impl Drop for Entrant {
    fn drop(&mut self) {
        // Fails for a program that has ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn commands_and_answers_alternate() {
        let script = r#"echo '{"ready_seconds": 1.5}'
            while read -r command; do
                case $command in
                    step) echo '{"seconds": 2, "loss": 3, "grad_norm": 4, "tokens": 5}' ;;
                    *) echo '{"peak_rss_bytes": 6}'; exit ;;
                esac
            done"#;
        let mut entrant = Entrant::start("it", shell(script)).expect("started");
        assert_eq!(entrant.ready.ready_seconds, 1.5);
        for _ in 0..2 {
            let step = entrant.step().expect("a step");
            assert_eq!((step.seconds, step.loss, step.grad_norm, step.tokens), (2.0, 3.0, 4.0, 5.0));
        }
        assert!(entrant.quit().expect("a peak") > 0);
    }

    #[test]
    fn a_program_that_ends_early_is_an_error_with_its_name() {
        let error = Entrant::start("it", shell("exit 3")).expect_err("no answer");
        assert!(error.to_string().starts_with("it ended (exit status: 3)"), "{error}");
    }
}
