//! `cargo xtask soak`: a long run must take no more memory, handles and files at its end than at its beginning.

mod sample;
mod trend;

use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::chaos::{Blow, End, Ready, Start, Work, program_to_run, with_objectives};
use crate::program::Profile;
use crate::workspace::Workspace;
use sample::Sample;
use trend::{Bounds, Summary};

/// Options of `cargo xtask soak`.
#[derive(Debug, Args)]
pub(crate) struct SoakOptions {
    /// How long the run goes on.
    #[arg(long, value_name = "M", default_value_t = 60.0)]
    pub(crate) minutes: f64,
    /// Work to run: full, lora, cache, saves or coupled.
    #[arg(long, value_name = "NAME", default_value = "full")]
    pub(crate) work: String,
    /// Threads of the run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) threads: usize,
    /// Seconds between samples.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub(crate) every: f64,
    /// Growth of resident memory that is let pass, in KiB a minute after warm-up.
    #[arg(long, value_name = "KIB", default_value_t = 64.0)]
    pub(crate) max_growth: f64,
    /// Program to run, instead of building one.
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
}

/// What makes a short work a long one; the last of these keys wins.
const LONG: &[&str] = &[
    "max_steps=1000000000",
    "lr_scheduler_type=constant",
    "learning_rate=1e-5",
    "eval_strategy=steps",
    "eval_steps=50",
    "save_steps=100",
    "save_total_limit=2",
];
/// A process that was asked to end has so long for its last checkpoint.
const LONGEST_STOP: Duration = Duration::from_secs(60);

/// Runs a work for some minutes, samples the process, and fails where something grows.
pub(crate) fn soak(workspace: &Workspace, options: &SoakOptions, profile: Profile) -> Result<ExitCode> {
    if !cfg!(target_os = "linux") {
        bail!("the process is read from /proc, which only Linux has; this is {}", std::env::consts::OS);
    }
    let program = program_to_run(workspace, options.program.as_deref(), profile)?;
    let folder = fresh_folder(workspace)?;
    let arguments = arguments(workspace, options, &program, &folder)?;
    let log = "log.txt".to_owned();
    let start = Start { program: &program, arguments: &arguments, folder: &folder, log, threads: options.threads };
    let mut child = start.spawn()?;
    let (samples, ended) = watch(&mut child, &folder, options)?;
    if let Some(end) = ended {
        bail!("the run ended by itself with {end}:\n{}", start.last_words());
    }
    let end = stop(&mut child)?;
    let summary = Summary::new(&samples, &Sample::of_folder(&folder), end);
    let failures = summary.failures(&Bounds { growth_kib: options.max_growth, minutes: options.minutes });
    eprint!("{}", summary.text());
    let path = workspace.target.join("chaos/soak.json");
    std::fs::write(&path, summary.json(&options.work, options.threads, &samples, &failures))
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("results: {}", path.display());
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(ExitCode::SUCCESS)
}

fn fresh_folder(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("chaos/soak");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// The command line of the work as a long one.
fn arguments(workspace: &Workspace, options: &SoakOptions, program: &Path, folder: &Path) -> Result<Vec<String>> {
    let works = Work::named(std::slice::from_ref(&options.work))?;
    let Some((work, objective)) = with_objectives(program, works, &mut Vec::new())?.pop() else {
        bail!("{} cannot be run", options.work);
    };
    eprintln!("{} ({}) for {} minutes, in {}", work.name, work.about, options.minutes, folder.display());
    let threads = format!("num_threads={}", options.threads);
    let more: Vec<&str> = LONG.iter().copied().chain([threads.as_str()]).collect();
    Ok(Ready::new(workspace, work, objective, folder)?.arguments(&more))
}

/// Samples the process until its time is over or it ends, which it must not.
fn watch(child: &mut Child, folder: &Path, options: &SoakOptions) -> Result<(Vec<Sample>, Option<End>)> {
    let begun = Instant::now();
    let every = Duration::from_secs_f64(options.every.max(0.1));
    let (mut samples, mut told) = (Vec::<Sample>::new(), Instant::now());
    while begun.elapsed().as_secs_f64() < 60.0 * options.minutes {
        std::thread::sleep(every);
        if let Some(status) = child.try_wait().context("waiting for the program")? {
            return Ok((samples, Some(status.into())));
        }
        let sample = Sample::take(child.id(), folder, begun.elapsed())?;
        if samples.is_empty() || told.elapsed() > Duration::from_secs(60) {
            eprintln!("    {}", sample.text());
            told = Instant::now();
        }
        samples.push(sample);
    }
    Ok((samples, None))
}

/// Asks the process to end, and kills it where it does not.
fn stop(child: &mut Child) -> Result<End> {
    Blow::Terminate.deal(child)?;
    let asked = Instant::now();
    while asked.elapsed() < LONGEST_STOP {
        if let Some(status) = child.try_wait().context("waiting for the program")? {
            return Ok(status.into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Blow::Kill.deal(child)?;
    Ok(child.wait().context("waiting for the program")?.into())
}
