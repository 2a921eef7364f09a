//! Starts the program and interrupts it.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::folder::Snapshot;
use crate::signal::{End, Signal};
use crate::trigger::{Trigger, Watch};

/// A process of a short run that lives longer than this is considered hung.
const LONGEST_LIFE: Duration = Duration::from_secs(300);
/// Lines of the log that an error quotes.
const NUM_LAST_LINES: usize = 12;

/// Creates the command that runs the program with the given arguments.
type MakeCommand = dyn Fn(&[String]) -> Command;

/// The program under test.
pub struct Program(Box<MakeCommand>);

impl Program {
    /// An executable.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::new(move |arguments| {
            let mut command = Command::new(&path);
            command.args(arguments);
            command
        })
    }

    /// A program that `command` starts with the given arguments.
    pub fn new(command: impl Fn(&[String]) -> Command + 'static) -> Self {
        Self(Box::new(command))
    }

    /// The command that runs it with these arguments.
    pub(crate) fn command(&self, arguments: &[String]) -> Command {
        (self.0)(arguments)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.command(&[]))
    }
}

/// How a process is started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) program: &'a Program,
    pub(crate) arguments: &'a [String],
    /// The folder it is started in; the run goes to `run` in it.
    pub(crate) folder: &'a Path,
    /// Name of its log in the folder.
    pub(crate) log: String,
    /// Threads of its pool.
    pub(crate) threads: usize,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    pub(crate) end: End,
    /// How long it lived.
    pub(crate) time: Duration,
    /// Its output.
    pub(crate) log: String,
    /// Its folder at its start.
    pub(crate) before: Snapshot,
    /// Its folder at its end.
    pub(crate) after: Snapshot,
}

impl Start<'_> {
    /// Starts the process without waiting for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn spawn(&self) -> Result<Child> {
        let path = self.log_path();
        let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let out = log.try_clone().with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = self.program.command(self.arguments);
        command.current_dir(self.folder).env("RAYON_NUM_THREADS", self.threads.to_string());
        command.stdin(Stdio::null()).stdout(out).stderr(log);
        command.spawn().with_context(|| format!("cannot start {:?}", self.program))
    }

    /// Runs the process until it ends, sending the signal when its trigger is due.
    ///
    /// # Errors
    /// It cannot be started or interrupted, or does not end.
    pub(crate) fn run(&self, interruption: Option<(Trigger, Signal)>) -> Result<Ended> {
        let before = Snapshot::read(self.folder);
        let (mut child, begun) = (self.spawn()?, Instant::now());
        let mut pending = interruption.map(|(trigger, signal)| (Watch::new(trigger, before.clone()), signal));
        let (mut last, mut awake) = (Duration::ZERO, Duration::ZERO);
        let status = loop {
            if let Some(status) = child.try_wait().context("waiting for the program")? {
                break status;
            }
            let elapsed = begun.elapsed();
            // A long gap means that this process was suspended too, for example by a terminal.
            awake += (elapsed - last).min(Duration::from_secs(1));
            last = elapsed;
            if awake > LONGEST_LIFE {
                return Err(self.hangs(&mut child));
            }
            let is_due =
                pending.as_mut().is_some_and(|(watch, _)| watch.is_due(elapsed, || Snapshot::read(self.folder)));
            if let Some((_, signal)) = pending.take_if(|_| is_due) {
                signal.send_to(&mut child)?;
                continue;
            }
            let pause = pending.as_ref().map_or(Duration::from_millis(1), |(watch, _)| watch.pause(elapsed));
            std::thread::sleep(pause);
        };
        let (time, after) = (begun.elapsed(), Snapshot::read(self.folder));
        Ok(Ended { end: status.into(), time, log: self.read_log(), before, after })
    }

    /// Kills a process that does not end, and reports what its threads wait for.
    fn hangs(&self, child: &mut Child) -> anyhow::Error {
        let threads = thread_states(child.id());
        let _ = child.kill().and_then(|()| child.wait());
        let (limit, lines) = (LONGEST_LIFE.as_secs(), self.last_lines());
        anyhow::anyhow!(
            "the program did not end within {limit} s; its threads: {threads}; the end of its log:\n{lines}"
        )
    }

    /// The last lines of the log.
    pub(crate) fn last_lines(&self) -> String {
        let log = self.read_log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(NUM_LAST_LINES)..].join("\n")
    }

    fn read_log(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(&self.log)
    }
}

/// Runs the program in the current folder and returns its standard output.
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn output(program: &Program, arguments: &[&str]) -> Result<String> {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    let mut command = program.command(&arguments);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What each thread of a process waits for, on Linux: its name, state and kernel function.
fn thread_states(id: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let state = |task: std::fs::DirEntry| {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default().trim().to_owned();
        format!("{} {state} {}", read("comm").trim(), read("wchan").trim())
    };
    let states: Vec<String> = tasks.map(state).collect();
    if states.is_empty() { "unknown".to_owned() } else { states.join(", ") }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_thread_is_seen() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let begun = Instant::now();
        // Between its start and its sleep it is seen in other states.
        while !thread_states(child.id()).starts_with("sleep S (sleeping)") {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", thread_states(child.id()));
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().and_then(|()| child.wait()).expect("an end");
        assert_eq!(thread_states(child.id()), "unknown");
    }
}
