//! `cargo xtask soak`: a long run must not use more memory, handles and files at its end than at its beginning.

mod sample;
mod trend;

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{Program, Start};
use crate::signal::{End, Signal};
use crate::workload::{Ready, Workload, with_objectives};
use sample::Sample;
use trend::{Bounds, Summary};

/// Options of `cargo xtask soak`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask soak --minutes 60\n  cargo xtask soak --minutes 10 --work lora --threads 2"
)]
pub struct SoakOptions {
    /// How long to run, in minutes.
    #[arg(long, value_name = "M", default_value_t = 60.0)]
    pub minutes: f64,
    /// Workload to run: full, lora, cache, saves or coupled.
    #[arg(long, value_name = "NAME", default_value = "full")]
    pub work: String,
    /// Threads of the run.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// Seconds between samples.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub every: f64,
    /// Allowed growth of resident memory, in KiB a minute after warm-up.
    #[arg(long, value_name = "KIB", default_value_t = 64.0)]
    pub max_growth: f64,
}

/// Settings that turn a short workload into a long one; they override its own.
const LONG: &[&str] = &[
    "max_steps=1000000000",
    "lr_scheduler_type=constant",
    "learning_rate=1e-5",
    "eval_strategy=steps",
    "eval_steps=50",
    "save_steps=100",
    "save_total_limit=2",
];
/// Time limit for a process's last checkpoint after SIGTERM.
const LONGEST_STOP: Duration = Duration::from_secs(60);

/// Runs a workload in `out` for some minutes, samples its process, and writes `soak.json` there.
///
/// # Errors
/// Something grows beyond its bound, or the run ends on its own.
pub fn soak(program: &Program, model: &Path, out: &Path, options: &SoakOptions) -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("the process is read from /proc, which only Linux has; this is {}", std::env::consts::OS);
    }
    let folder = out.join("soak");
    let arguments = arguments(program, model, &folder, options)?;
    let log = "log.txt".to_owned();
    let start = Start { program, arguments: &arguments, folder: &folder, log, threads: options.threads };
    let mut child = start.spawn()?;
    let (samples, ended) = watch(&mut child, &folder, options)?;
    if let Some(end) = ended {
        bail!("the run ended by itself with {end}:\n{}", start.last_lines());
    }
    let end = stop(&mut child)?;
    let summary = Summary::new(&samples, &Sample::of_folder(&folder), end);
    let failures = summary.failures(&Bounds { growth_kib: options.max_growth, minutes: options.minutes });
    eprint!("{}", summary.text());
    let path = out.join("soak.json");
    std::fs::write(&path, summary.json(&options.work, options.threads, &samples, &failures)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("results: {}", path.display());
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(())
}

/// The command line of the long version of the workload.
fn arguments(program: &Program, model: &Path, folder: &Path, options: &SoakOptions) -> Result<Vec<String>> {
    let workloads = Workload::named(std::slice::from_ref(&options.work))?;
    let Some((workload, objective)) = with_objectives(program, workloads, &mut Vec::new())?.pop() else {
        bail!("{} cannot be run", options.work);
    };
    eprintln!("{} ({}) for {} minutes, in {}", workload.name, workload.about, options.minutes, folder.display());
    let threads = format!("num_threads={}", options.threads);
    let more: Vec<&str> = LONG.iter().copied().chain([threads.as_str()]).collect();
    Ok(Ready::new(workload, objective, model, folder)?.arguments(&more))
}

/// Samples the process until its time is over; also returns an early end.
fn watch(child: &mut Child, folder: &Path, options: &SoakOptions) -> Result<(Vec<Sample>, Option<End>)> {
    let begun = Instant::now();
    let every = Duration::from_secs_f64(options.every.max(0.1));
    let (mut samples, mut last_shown) = (Vec::<Sample>::new(), Instant::now());
    while begun.elapsed().as_secs_f64() < 60.0 * options.minutes {
        std::thread::sleep(every);
        if let Some(status) = child.try_wait().context("waiting for the program")? {
            return Ok((samples, Some(status.into())));
        }
        let sample = Sample::take(child.id(), folder, begun.elapsed())?;
        if samples.is_empty() || last_shown.elapsed() > Duration::from_secs(60) {
            eprintln!("    {}", sample.text());
            last_shown = Instant::now();
        }
        samples.push(sample);
    }
    Ok((samples, None))
}

/// Asks the process to end, and kills it if it does not.
fn stop(child: &mut Child) -> Result<End> {
    Signal::Terminate.send_to(child)?;
    let asked = Instant::now();
    while asked.elapsed() < LONGEST_STOP {
        if let Some(status) = child.try_wait().context("waiting for the program")? {
            return Ok(status.into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Signal::Kill.send_to(child)?;
    Ok(child.wait().context("waiting for the program")?.into())
}
