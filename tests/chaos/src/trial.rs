//! A job's undisturbed run, and interrupted runs that must end the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::seq::IndexedRandom;
use serde_json::Value;

use crate::folder::Snapshot;
use crate::job::Job;
use crate::process::{Ended, Program, Start};
use crate::random::{Random, random};
use crate::record::{Interruption, Run};
use crate::signal::{Signal, Verdict};
use crate::trigger::{Event, Trigger};

/// After this many interruptions a run is left alone, so that it ends.
const MOST_INTERRUPTIONS: usize = 30;
/// Sizes of the thread pool; none affects the results.
const THREADS: [usize; 3] = [1, 2, 4];

/// A job and its expected result.
#[derive(Debug)]
pub struct Trial<'a> {
    program: &'a Program,
    job: Job,
    root: PathBuf,
    /// Duration of the undisturbed run.
    whole: Duration,
    last_step: usize,
}

/// The disturbances of a run.
#[derive(Debug, Clone, Copy)]
pub struct Disturbance {
    /// Seed of every draw.
    pub seed: u64,
    /// The run of the workload, from 1.
    pub number: usize,
    /// Kills after which the run is left alone.
    pub most_kills: usize,
    /// Whether some interruptions are SIGTERM or SIGINT.
    pub signals: bool,
    /// Whether every second process is interrupted as soon as it begins a checkpoint.
    pub at_checkpoints: bool,
}

/// The interruption drawn for one process.
struct Draw {
    trigger: Trigger,
    signal: Signal,
    threads: usize,
    arguments: Vec<String>,
}

impl<'a> Trial<'a> {
    /// Runs the job twice undisturbed below `root`, with different numbers of threads, and compares the two.
    ///
    /// # Errors
    /// A run fails, or the two differ.
    pub fn begin(program: &'a Program, job: impl Into<Job>, root: &Path) -> Result<Self> {
        let job = job.into();
        let mut trial = Self { program, job, root: root.to_owned(), whole: Duration::ZERO, last_step: 0 };
        let (expected, control) = (root.join("expected"), root.join("control"));
        let ended = trial.run_undisturbed(&expected, 2)?;
        trial.whole = ended.time;
        trial.last_step = ended.after.newest();
        trial.run_undisturbed(&control, 1)?;
        let found = trial.job.differences(&expected, &control)?;
        if !found.is_empty() {
            bail!("{}: two undisturbed runs differ: {}", trial.name(), found.join("; "));
        }
        Ok(trial)
    }

    /// The job's name.
    pub fn name(&self) -> &'static str {
        self.job.name()
    }

    /// Whether it is a training run, which saves when a signal asks it to end.
    pub(crate) fn saves(&self) -> bool {
        self.job.saves()
    }

    /// How long the undisturbed run took.
    pub fn undisturbed_time(&self) -> Duration {
        self.whole
    }

    /// The folder of a run.
    pub fn folder(&self, number: usize) -> PathBuf {
        self.root.join(format!("run-{number}"))
    }

    /// Removes the folder of a run.
    pub(crate) fn discard(&self, number: usize) -> Result<()> {
        let folder = self.folder(number);
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
    }

    /// Whether the program exits on its own when SIGTERM reaches it during training.
    pub(crate) fn handles_signals(&self) -> Result<bool> {
        let folder = self.root.join("probe");
        create_folder(&folder)?;
        let trigger = Trigger::On { event: Event::Metrics, times: 2, delay: Duration::ZERO };
        let start = self.start(&folder, &self.job.first(&folder), 1, 2).run(Some((trigger, Signal::Terminate)))?;
        Ok(start.end.signal != Some(15))
    }

    /// One run: interrupted, resumed until it ends, and compared with the undisturbed one. `run` is updated as it goes,
    /// so that it is correct even after an error.
    ///
    /// # Errors
    /// A process fails, or does not end as a signal demands.
    pub fn attempt(&self, disturbance: Disturbance, run: &mut Run) -> Result<()> {
        let Disturbance { seed, number, most_kills, signals, at_checkpoints } = disturbance;
        let folder = self.folder(number);
        create_folder(&folder)?;
        let mut random = random(seed, &format!("{} {number}", self.name()));
        loop {
            run.starts += 1;
            let mut draw = self.draw(run.starts, &folder, signals, &mut random);
            if at_checkpoints && run.starts.is_multiple_of(2) {
                draw.trigger = Trigger::On { event: Event::Staging, times: 1, delay: Duration::ZERO };
            }
            let left_alone = run.num_kills() >= most_kills || run.interruptions.len() >= MOST_INTERRUPTIONS;
            let start = self.start(&folder, &draw.arguments, run.starts, draw.threads);
            let ended = start.run((!left_alone).then_some((draw.trigger, draw.signal)))?;
            let phase = self.job.phase(&ended, self.last_step);
            match draw.signal.verdict(ended.end, phase).with_context(|| start.last_lines())? {
                Verdict::Finished => break,
                Verdict::Stopped if self.saves() => {
                    check_saved(&folder, &ended).with_context(|| start.last_lines())?;
                }
                Verdict::Stopped | Verdict::Ended => {}
            }
            run.interruptions.push(Interruption {
                workload: self.name(),
                run: number,
                start: run.starts,
                signal: draw.signal,
                trigger: draw.trigger,
                phase,
                threads: draw.threads,
                seconds: ended.time.as_secs_f64(),
            });
            if self.job.is_finished(&folder) {
                break;
            }
        }
        run.differences = self.job.differences(&self.root.join("expected"), &folder)?;
        Ok(())
    }

    fn draw(&self, start: usize, folder: &Path, signals: bool, random: &mut Random) -> Draw {
        let events = self.job.events(&Snapshot::read(folder));
        Draw {
            trigger: Trigger::draw(random, self.whole, &events),
            signal: Signal::draw(random, signals),
            threads: THREADS.choose(random).copied().unwrap_or(1),
            arguments: self.job.arguments(start, folder, random),
        }
    }

    fn run_undisturbed(&self, folder: &Path, threads: usize) -> Result<Ended> {
        create_folder(folder)?;
        let arguments = self.job.first(folder);
        let start = self.start(folder, &arguments, 1, threads);
        let ended = start.run(None)?;
        if ended.end.code != Some(0) {
            bail!("{}: the undisturbed run ended with {}:\n{}", self.name(), ended.end, start.last_lines());
        }
        Ok(ended)
    }

    fn start<'s>(&'s self, folder: &'s Path, arguments: &'s [String], number: usize, threads: usize) -> Start<'s> {
        Start { program: self.program, arguments, folder, log: format!("log-{number}.txt"), threads }
    }
}

fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// A run that was asked to end must have saved the last step it recorded.
fn check_saved(folder: &Path, ended: &Ended) -> Result<()> {
    // Before it trains, the rows are those of an earlier process, which may have been killed after its last checkpoint.
    if !ended.log.contains("training with ") {
        return Ok(());
    }
    let metrics = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap_or_default();
    match last_step(&metrics) {
        Some(step) if ended.after.newest() != step => {
            bail!("it ended itself after step {step}, but its newest checkpoint is {}", ended.after.newest())
        }
        _ => Ok(()),
    }
}

/// The step of the last training row.
fn last_step(metrics: &str) -> Option<usize> {
    let rows = metrics.lines().rev().filter_map(|row| serde_json::from_str::<Value>(row).ok());
    let step = rows.filter(|row| row.get("grad_norm").is_some()).find_map(|row| row["step"].as_u64())?;
    usize::try_from(step).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::End;

    #[test]
    fn the_last_training_row_is_found_before_evaluations() {
        let metrics = "{\"step\":3,\"loss\":0.5,\"grad_norm\":1.0}\n{\"step\":4,\"grad_norm\":1.0}\n{\"step\":4,\"eval_loss\":1}\n";
        assert_eq!(last_step(metrics), Some(4));
        assert_eq!(last_step("{\"step\":0,\"eval_loss\":1}\n"), None);
        assert_eq!(last_step(""), None);
    }

    #[test]
    fn a_stop_without_its_checkpoint_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("run")).expect("a folder");
        std::fs::write(folder.path().join("run/metrics.jsonl"), "{\"step\":4,\"grad_norm\":1.0}\n").expect("a file");
        let check = |log: &str, step: usize| {
            let after = Snapshot { checkpoints: [step].into(), ..Snapshot::default() };
            let end = End { code: Some(143), signal: None };
            let (log, before) = (log.to_owned(), Snapshot::default());
            check_saved(folder.path(), &Ended { end, time: Duration::ZERO, log, before, after })
        };
        let (saved, lost) = (check("training with nca (5)\n", 4), check("training with nca (5)\n", 3));
        let early = check("reference log-probs (5)\n", 3);
        assert!(early.is_ok(), "the row is of an earlier process");
        assert!(saved.is_ok());
        assert!(lost.expect_err("lost").to_string().contains("after step 4"), "one step is lost");
    }
}
