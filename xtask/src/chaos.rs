//! `cargo xtask chaos`: short runs that are killed and resumed again and again must end with the bytes of a run that was
//! left alone.

mod blow;
mod child;
mod compare;
mod folder;
mod phase;
mod random;
mod report;
mod rows;
mod trial;
mod trigger;
mod works;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{ArgAction, Args};

pub(crate) use blow::{Blow, End};
pub(crate) use child::Start;
pub(crate) use folder::{is_staging, is_temporary};
pub(crate) use report::quoted;
pub(crate) use works::{Ready, Work};

use crate::forward::Forwarded;
use crate::program::{self, Profile};
use crate::workspace::{Workspace, output};
use report::{Results, Tally, phases};
use trial::{Plan, Run, Trial};

/// Options of `cargo xtask chaos`.
#[derive(Debug, Args)]
pub(crate) struct ChaosOptions {
    /// Kills (SIGKILL) that must hit a living process.
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub(crate) kills: usize,
    /// Seed of when and how processes are interrupted.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Work to run; may be repeated [default: all]: full, lora, cache, saves, coupled.
    #[arg(long, value_name = "NAME")]
    pub(crate) work: Vec<String>,
    /// Interrupt some processes by SIGTERM or SIGINT, beside the kills; they must save and end with 143 or 130.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub(crate) signals: bool,
    /// Keep the folders of all runs, not only of those that differ.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Go on after a difference, to see whether there are others.
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Program to run, instead of building one.
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
}

/// Kills and resumes until so many kills have hit; fails at the first difference.
pub(crate) fn chaos(workspace: &Workspace, options: &ChaosOptions, profile: Profile) -> Result<ExitCode> {
    if !cfg!(unix) {
        bail!("kills and signals are those of Unix; this is {}", std::env::consts::OS);
    }
    let works = Work::named(&options.work)?;
    let program = program_to_run(workspace, options.program.as_deref(), profile)?;
    let root = workspace.target.join("chaos");
    let begun = Instant::now();
    let mut results = Results { seed: options.seed, ..Results::default() };
    let mut trials = Vec::new();
    for (work, objective) in with_objectives(&program, works, &mut results.left_out)? {
        trials.push(Trial::begin(workspace, &program, work, objective, &root)?);
        results.works.push(Tally { work: work.name, ..Tally::default() });
    }
    let Some(first) = trials.first() else { bail!("no work can be run") };
    let signals = options.signals && first.handles_signals()?;
    if options.signals && !signals {
        let reason = "signals (SIGTERM ends this program without a checkpoint)".to_owned();
        eprintln!("NOT RUN: {reason}");
        results.left_out.push(reason);
    }
    let outcome = strike(options, signals, &trials, &mut results, begun);
    results.seconds = begun.elapsed().as_secs_f64();
    eprint!("\n{}", results.table());
    let path = root.join("results.json");
    std::fs::write(&path, results.json()).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("results: {}", path.display());
    outcome?;
    if results.num_differences() > 0 {
        bail!("{} differences; the folders are kept", results.num_differences());
    }
    eprintln!("{} kills and {} signals without a difference.", results.num_kills(), results.num_signals());
    Ok(ExitCode::SUCCESS)
}

/// The program that was named, or the one that is built.
///
/// # Errors
/// It is not there or cannot be built.
pub(crate) fn program_to_run(workspace: &Workspace, named: Option<&Path>, profile: Profile) -> Result<PathBuf> {
    match named {
        // Processes are started in folders of their own.
        Some(path) => path.canonicalize().with_context(|| format!("--program {}", path.display())),
        None => program::build(workspace, &Forwarded::default(), profile),
    }
}

/// Each work with an objective that the program has; works without one are left out and named.
pub(crate) fn with_objectives(
    program: &Path,
    works: Vec<Work>,
    left_out: &mut Vec<String>,
) -> Result<Vec<(Work, &'static str)>> {
    let list = output(Command::new(program).arg("objectives"))?;
    let known: Vec<String> =
        list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    let mut chosen = Vec::new();
    for work in works {
        match work.objective(&known) {
            Some(objective) => chosen.push((work, objective)),
            None => {
                let reason = format!("{} (this program has no such objective)", work.name);
                eprintln!("NOT RUN: {reason}");
                left_out.push(reason);
            }
        }
    }
    Ok(chosen)
}

/// Runs the works in turn, interrupting them, until enough kills have hit.
fn strike(
    options: &ChaosOptions,
    signals: bool,
    trials: &[Trial<'_>],
    results: &mut Results,
    begun: Instant,
) -> Result<()> {
    for turn in 0.. {
        let most_kills = options.kills.saturating_sub(results.num_kills());
        if most_kills == 0 {
            break;
        }
        let (trial, number) = (&trials[turn % trials.len()], 1 + turn / trials.len());
        let plan = Plan { seed: options.seed, number, most_kills, signals };
        let mut run = Run::default();
        let outcome = trial.attempt(plan, &mut run);
        // What was done before a failure counts.
        results.works[turn % trials.len()].add(&run);
        results.interruptions.extend(run.interruptions.iter().cloned());
        outcome.with_context(|| format!("{} #{number} in {}", trial.name(), trial.folder(number).display()))?;
        let (kills, seconds) = (results.num_kills(), begun.elapsed().as_secs_f64());
        eprintln!("{} #{number}: {}  [{kills}/{} kills, {seconds:.0} s]", trial.name(), in_words(&run), options.kills);
        if run.differences.is_empty() {
            if !options.keep {
                trial.discard(number)?;
            }
        } else if !options.keep_going {
            bail!("{} #{number} differs; see {}", trial.name(), trial.folder(number).display());
        }
    }
    Ok(())
}

/// What was done to a run and what came of it.
fn in_words(run: &Run) -> String {
    let word = if run.differences.is_empty() { "same bytes" } else { "DIFFERENT" };
    let mut text = format!("{word}; killed at {}", phases(&run.kills()));
    if !run.signals().is_empty() {
        text.push_str(&format!("; signals at {}", phases(&run.signals())));
    }
    run.differences.iter().for_each(|difference| text.push_str(&format!("\n    {difference}")));
    text
}
