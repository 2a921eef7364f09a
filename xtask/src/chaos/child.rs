//! Starting the program and interrupting it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::chaos::blow::{Blow, End};
use crate::chaos::folder::Snapshot;
use crate::chaos::trigger::{Trigger, Watch};

/// A process of a short run that lives longer than this hangs.
const LONGEST_LIFE: Duration = Duration::from_secs(300);

/// How a process is started.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// Its arguments.
    pub(crate) arguments: &'a [String],
    /// The folder that it is started in; the run goes to `run` in it.
    pub(crate) folder: &'a Path,
    /// Name of the file in the folder that gets what the process says.
    pub(crate) log: String,
    /// Threads of its pool.
    pub(crate) threads: usize,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Life {
    /// How.
    pub(crate) end: End,
    /// How long it lived.
    pub(crate) time: Duration,
    /// What it said.
    pub(crate) log: String,
    /// Its folder when it was started.
    pub(crate) before: Snapshot,
    /// Its folder when it had ended.
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
        let mut command = Command::new(self.program);
        command.args(self.arguments).current_dir(self.folder).env("RAYON_NUM_THREADS", self.threads.to_string());
        command.stdin(Stdio::null()).stdout(out).stderr(log);
        command.spawn().with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// Runs the process to its end, interrupting it as `plan` says.
    ///
    /// # Errors
    /// It cannot be started or interrupted, or does not end.
    pub(crate) fn run(&self, plan: Option<(Trigger, Blow)>) -> Result<Life> {
        let before = Snapshot::of(self.folder);
        let (mut child, begun) = (self.spawn()?, Instant::now());
        let mut plan = plan.map(|(trigger, blow)| (Watch::new(trigger, before.clone()), blow));
        let (mut last, mut awake) = (Duration::ZERO, Duration::ZERO);
        let status = loop {
            if let Some(status) = child.try_wait().context("waiting for the program")? {
                break status;
            }
            let elapsed = begun.elapsed();
            // A long gap is one in which this process was stopped too, as by a terminal.
            awake += (elapsed - last).min(Duration::from_secs(1));
            last = elapsed;
            if awake > LONGEST_LIFE {
                let threads = waits(child.id());
                let _ = child.kill().and_then(|()| child.wait());
                let (limit, words) = (LONGEST_LIFE.as_secs(), self.last_words());
                bail!("the program did not end within {limit} s; its threads: {threads}; it said:\n{words}");
            }
            let is_due = plan.as_mut().is_some_and(|(watch, _)| watch.is_due(elapsed, || Snapshot::of(self.folder)));
            if let Some((_, blow)) = plan.take_if(|_| is_due) {
                blow.deal(&mut child)?;
                continue;
            }
            let pause = plan.as_ref().map_or(Duration::from_millis(1), |(watch, _)| watch.pause(elapsed));
            std::thread::sleep(pause);
        };
        let (time, after) = (begun.elapsed(), Snapshot::of(self.folder));
        let log = std::fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Life { end: status.into(), time, log: log.unwrap_or_default(), before, after })
    }

    /// The last lines that the process wrote.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(&self.log)
    }
}

/// What each thread of a process waits for, as Linux tells: its name, state and place in the kernel.
fn waits(id: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let wait = |task: std::fs::DirEntry| {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default().trim().to_owned();
        format!("{} {state} {}", read("comm").trim(), read("wchan").trim())
    };
    let waits: Vec<String> = tasks.map(wait).collect();
    if waits.is_empty() { "unknown".to_owned() } else { waits.join(", ") }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_thread_is_seen() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let begun = Instant::now();
        // Between its start and its sleep it is seen in other states.
        while !waits(child.id()).starts_with("sleep S (sleeping)") {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", waits(child.id()));
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().and_then(|()| child.wait()).expect("an end");
        assert_eq!(waits(child.id()), "unknown");
    }
}
