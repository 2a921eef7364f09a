//! One work: its undisturbed run, and the runs that are interrupted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::chaos::blow::{Blow, Verdict};
use crate::chaos::child::{Life, Start};
use crate::chaos::compare::differences;
use crate::chaos::folder::Snapshot;
use crate::chaos::phase::Phase;
use crate::chaos::random::Random;
use crate::chaos::report::Interruption;
use crate::chaos::trigger::{Event, Trigger};
use crate::chaos::works::{Ready, Work, short_resume};
use crate::workspace::Workspace;

/// After so many interruptions a run is left alone, so that it ends.
const MOST_INTERRUPTIONS: usize = 30;
/// Sizes of the pool of threads, of which none changes a sum.
const THREADS: [usize; 3] = [1, 2, 4];

/// A work with what it must come to.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    program: &'a Path,
    ready: Ready,
    root: PathBuf,
    /// Time of the undisturbed run.
    whole: Duration,
    last_step: usize,
}

/// How a run is to be disturbed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Seed of every draw.
    pub(crate) seed: u64,
    /// The run of the work, from 1.
    pub(crate) number: usize,
    /// Most kills.
    pub(crate) most_kills: usize,
    /// Whether some interruptions are SIGTERM or SIGINT.
    pub(crate) signals: bool,
}

/// What was done to one run.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Processes.
    pub(crate) starts: usize,
    /// Kills and signals, in their order.
    pub(crate) interruptions: Vec<Interruption>,
    /// Where it differs from the undisturbed run.
    pub(crate) differences: Vec<String>,
}

impl Run {
    /// Kills that hit, by phase.
    pub(crate) fn kills(&self) -> BTreeMap<Phase, usize> {
        self.by_phase(|blow| blow == Blow::Kill)
    }

    /// Signals that hit, by phase.
    pub(crate) fn signals(&self) -> BTreeMap<Phase, usize> {
        self.by_phase(|blow| blow != Blow::Kill)
    }

    fn by_phase(&self, counts: impl Fn(Blow) -> bool) -> BTreeMap<Phase, usize> {
        let mut by_phase = BTreeMap::new();
        for one in self.interruptions.iter().filter(|one| counts(one.blow)) {
            *by_phase.entry(one.phase).or_default() += 1;
        }
        by_phase
    }
}

impl<'a> Trial<'a> {
    /// Runs the work twice without disturbance, with different numbers of threads: both must come to the same.
    ///
    /// # Errors
    /// A run that fails, or two that differ.
    pub(crate) fn begin(
        workspace: &Workspace,
        program: &'a Path,
        work: Work,
        objective: &'static str,
        root: &Path,
    ) -> Result<Self> {
        let root = root.join(work.name);
        if root.exists() {
            std::fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        std::fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        let ready = Ready::new(workspace, work, objective, &root)?;
        let mut trial = Self { program, ready, root, whole: Duration::ZERO, last_step: 0 };
        let (expected, control) = (trial.root.join("expected"), trial.root.join("control"));
        let life = trial.undisturbed(&expected, 2)?;
        trial.whole = life.time;
        trial.last_step = life.after.newest();
        trial.undisturbed(&control, 1)?;
        let found = differences(&expected, &control)?;
        if !found.is_empty() {
            bail!("{}: two undisturbed runs differ: {}", work.name, found.join("; "));
        }
        eprintln!("{:<8} {} with {objective}: {:.1} s", work.name, work.about, trial.whole.as_secs_f64());
        Ok(trial)
    }

    /// The work's name.
    pub(crate) fn name(&self) -> &'static str {
        self.ready.work.name
    }

    /// The folder of a run.
    pub(crate) fn folder(&self, number: usize) -> PathBuf {
        self.root.join(format!("run-{number}"))
    }

    /// Removes the folder of a run.
    pub(crate) fn discard(&self, number: usize) -> Result<()> {
        let folder = self.folder(number);
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
    }

    /// Whether the program ends itself when it is asked to in the middle of training.
    pub(crate) fn handles_signals(&self) -> Result<bool> {
        let folder = self.root.join("probe");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let trigger = Trigger::On { event: Event::Metrics, times: 2, delay: Duration::ZERO };
        let life = self.start(&folder, &self.ready.arguments(&[]), 1, 2).run(Some((trigger, Blow::Terminate)))?;
        Ok(life.end.signal != Some(15))
    }

    /// One run, interrupted at most `most_kills` times by SIGKILL, resumed until it ends, and compared. `run` is told of
    /// everything as it happens.
    ///
    /// # Errors
    /// A process that fails, or does not do what a signal asks.
    pub(crate) fn attempt(&self, plan: Plan, run: &mut Run) -> Result<()> {
        let Plan { seed, number, most_kills, signals } = plan;
        let folder = self.folder(number);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut random = Random::new(seed, &format!("{} {number}", self.name()));
        loop {
            run.starts += 1;
            let events = Event::ahead(self.ready.work.has_cache(), &Snapshot::of(&folder));
            let trigger = Trigger::draw(&mut random, self.whole, &events);
            let blow = Blow::draw(&mut random, signals);
            let threads = random.pick(&THREADS);
            let arguments = self.arguments(run.starts, &folder, &mut random);
            let num_kills = run.interruptions.iter().filter(|one| one.blow == Blow::Kill).count();
            let left_alone = num_kills >= most_kills || run.interruptions.len() >= MOST_INTERRUPTIONS;
            let start = self.start(&folder, &arguments, run.starts, threads);
            let life = start.run((!left_alone).then_some((trigger, blow)))?;
            let phase = Phase::of(&life.log, &life.before, &life.after, self.last_step);
            let verdict = blow.judge(life.end, phase).with_context(|| start.last_words())?;
            if verdict == Verdict::Finished {
                break;
            }
            if verdict == Verdict::Stopped {
                check_saved(&folder, &life).with_context(|| start.last_words())?;
            }
            run.interruptions.push(Interruption {
                work: self.name(),
                run: number,
                start: run.starts,
                blow,
                trigger,
                phase,
                threads,
                seconds: life.time.as_secs_f64(),
            });
        }
        run.differences = differences(&self.root.join("expected"), &folder)?;
        Ok(())
    }

    /// How a run is begun or resumed: with all of its options, or as a user would, with its folder alone.
    fn arguments(&self, start: usize, folder: &Path, random: &mut Random) -> Vec<String> {
        let short = random.below(2) == 0;
        if start > 1 && short && folder.join("run/recipe.yaml").is_file() {
            return short_resume();
        }
        let mut arguments = self.ready.arguments(&[]);
        arguments.extend((start > 1).then(|| "--resume".to_owned()));
        arguments
    }

    fn undisturbed(&self, folder: &Path, threads: usize) -> Result<Life> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let arguments = self.ready.arguments(&[]);
        let start = self.start(folder, &arguments, 1, threads);
        let life = start.run(None)?;
        if life.end.code != Some(0) {
            bail!("{}: the undisturbed run ended with {}:\n{}", self.name(), life.end, start.last_words());
        }
        Ok(life)
    }

    fn start<'s>(&'s self, folder: &'s Path, arguments: &'s [String], number: usize, threads: usize) -> Start<'s> {
        Start { program: self.program, arguments, folder, log: format!("log-{number}.txt"), threads }
    }
}

/// A run that was asked to end must have saved the last step that it recorded.
fn check_saved(folder: &Path, life: &Life) -> Result<()> {
    // Before it trains, the rows are those of the process before it, which may have been killed after its last checkpoint.
    if !life.log.contains("training with ") {
        return Ok(());
    }
    let metrics = std::fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap_or_default();
    match last_step(&metrics) {
        Some(step) if life.after.newest() != step => {
            bail!("it ended itself after step {step}, but its newest checkpoint is {}", life.after.newest())
        }
        _ => Ok(()),
    }
}

/// The step of the last training row.
fn last_step(metrics: &str) -> Option<usize> {
    let row = metrics.lines().rev().find(|row| row.contains("\"grad_norm\":"))?;
    let (_, rest) = row.split_once("\"step\":")?;
    rest.split([',', '}']).next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::blow::End;

    #[test]
    fn kills_and_signals_are_counted_by_phase() {
        let one = |blow, phase| Interruption {
            work: "full",
            run: 1,
            start: 1,
            blow,
            trigger: Trigger::After(Duration::ZERO),
            phase,
            threads: 1,
            seconds: 0.0,
        };
        let interruptions = vec![
            one(Blow::Kill, Phase::Steps),
            one(Blow::Terminate, Phase::Steps),
            one(Blow::Kill, Phase::Steps),
            one(Blow::Kill, Phase::Export),
        ];
        let run = Run { interruptions, ..Run::default() };
        assert_eq!(run.kills(), [(Phase::Steps, 2), (Phase::Export, 1)].into());
        assert_eq!(run.signals(), [(Phase::Steps, 1)].into());
    }

    #[test]
    fn the_last_training_row_is_found_before_evaluations() {
        let metrics = "{\"step\":3,\"loss\":0.5,\"grad_norm\":1.0}\n{\"step\":4,\"grad_norm\":1.0}\n{\"step\":4,\"eval_loss\":1}\n";
        assert_eq!(last_step(metrics), Some(4));
        assert_eq!(last_step("{\"step\":0,\"eval_loss\":1}\n"), None);
        assert_eq!(last_step(""), None);
    }

    #[test]
    fn a_stop_without_its_checkpoint_is_an_error() {
        let folder = std::env::temp_dir().join(format!("xtask-chaos-trial-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("run")).expect("a folder");
        std::fs::write(folder.join("run/metrics.jsonl"), "{\"step\":4,\"grad_norm\":1.0}\n").expect("a file");
        let check = |log: &str, step: usize| {
            let after = Snapshot { checkpoints: [step].into(), ..Snapshot::default() };
            let end = End { code: Some(143), signal: None };
            let (log, before) = (log.to_owned(), Snapshot::default());
            check_saved(&folder, &Life { end, time: Duration::ZERO, log, before, after })
        };
        let (saved, lost) = (check("training with nca (5)\n", 4), check("training with nca (5)\n", 3));
        let early = check("reference log-probs (5)\n", 3);
        std::fs::remove_dir_all(&folder).expect("the folder");
        assert!(early.is_ok(), "the row is of an earlier process");
        assert!(saved.is_ok());
        assert!(lost.expect_err("lost").to_string().contains("after step 4"), "one step is lost");
    }
}
