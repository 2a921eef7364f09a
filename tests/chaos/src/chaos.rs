//! `cargo xtask chaos`: kills and resumes until enough kills have hit.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{ArgAction, Args};

use crate::process::Program;
use crate::record::Run;
use crate::report::{Results, Tally, phases};
use crate::trial::{Disturbance, Trial};
use crate::verb::{Inputs, VERBS, Verb};
use crate::workload::{Ready, WORKLOADS, Workload, all_names, with_objectives};

/// Options of `cargo xtask chaos`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo xtask chaos --kills 300\n  \
    cargo xtask chaos --kills 20 --work cache --seed 7 --keep\n  \
    cargo xtask chaos --kills 50 --signals false --program target/release/collimate")]
pub struct ChaosOptions {
    /// Kills (SIGKILL) that must hit a living process.
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub kills: usize,
    /// Seed of when and how processes are interrupted.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Work to interrupt, by name; all of it if empty.
    #[arg(long, value_name = "NAME", help = format!("Work to interrupt; may be repeated [default: all]: {}", known()))]
    pub work: Vec<String>,
    /// Interrupt some processes by SIGTERM or SIGINT too; they must save and end with 143 or 130.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub signals: bool,
    /// Keep the folders of all runs, not only of those that differ.
    #[arg(long)]
    pub keep: bool,
    /// Continue after a difference, to see whether there are others.
    #[arg(long)]
    pub keep_going: bool,
}

/// Kills and resumes runs in `out` until the kills asked for have hit, and writes `results.json` there.
///
/// # Errors
/// A run that ends with other bytes, or a process that fails.
pub fn chaos(program: &Program, model: &Path, out: &Path, options: &ChaosOptions) -> Result<()> {
    if !cfg!(unix) {
        bail!("kills and signals are those of Unix; this is {}", std::env::consts::OS);
    }
    let begun = Instant::now();
    let mut results = Results { seed: options.seed, ..Results::default() };
    let trials = begin(program, model, out, options, &mut results)?;
    let signals = options.signals && handles_signals(&trials, &mut results)?;
    let outcome = interrupt_all(&Settings { options, signals, begun }, &trials, &mut results);
    results.seconds = begun.elapsed().as_secs_f64();
    eprint!("\n{}", results.table());
    let path = out.join("results.json");
    std::fs::write(&path, results.json()?).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("results: {}", path.display());
    outcome?;
    if results.num_differences() > 0 {
        bail!("{} differences; the folders are kept", results.num_differences());
    }
    eprintln!("{} kills and {} signals without a difference.", results.num_kills(), results.num_signals());
    Ok(())
}

/// The undisturbed runs of every workload that the program can run.
fn begin<'a>(
    program: &'a Program,
    model: &Path,
    out: &Path,
    options: &ChaosOptions,
    results: &mut Results,
) -> Result<Vec<Trial<'a>>> {
    let mut trials = Vec::new();
    let (workloads, verbs) = named(&options.work)?;
    for (workload, objective) in with_objectives(program, workloads, &mut results.left_out)? {
        let folder = out.join(workload.name);
        let trial = Trial::begin(program, Ready::new(workload, objective, model, &folder)?, &folder)?;
        let (name, seconds) = (workload.name, trial.undisturbed_time().as_secs_f64());
        eprintln!("{name:<8} {} with {objective}: {seconds:.1} s", workload.about);
        trials.push(trial);
    }
    let inputs = match verbs.is_empty() {
        true => None,
        false => Some(Inputs::new(program, model, &out.join("inputs"))?),
    };
    for (verb, inputs) in verbs.into_iter().zip(inputs.iter().cycle()) {
        let folder = empty(&out.join(verb.name))?;
        let trial = Trial::begin(program, verb.with(inputs), &folder)?;
        eprintln!("{:<8} {}: {:.1} s", verb.name, verb.about, trial.undisturbed_time().as_secs_f64());
        trials.push(trial);
    }
    results.tallies = trials.iter().map(|trial| Tally { workload: trial.name(), ..Tally::default() }).collect();
    if trials.is_empty() {
        bail!("none of the workloads can be run");
    }
    Ok(trials)
}

/// Names of all training runs and other verbs.
fn known() -> String {
    VERBS.iter().fold(all_names(), |all, verb| format!("{all}, {}", verb.name))
}

/// Training runs and other verbs by name, or all of them.
fn named(names: &[String]) -> Result<(Vec<Workload>, Vec<Verb>)> {
    if names.is_empty() {
        return Ok((WORKLOADS.to_vec(), VERBS.to_vec()));
    }
    let (mut workloads, mut verbs) = (Vec::new(), Vec::new());
    for name in names {
        match (Workload::find(name), Verb::find(name)) {
            (Some(workload), _) => workloads.push(workload),
            (None, Some(verb)) => verbs.push(verb),
            (None, None) => bail!("no work is called \"{name}\"; there are {}", known()),
        }
    }
    Ok((workloads, verbs))
}

/// The folder, with nothing in it.
fn empty(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.to_owned())
}

/// Whether the program saves when a signal asks it to end; where it does not, the results say so.
fn handles_signals(trials: &[Trial<'_>], results: &mut Results) -> Result<bool> {
    // Other verbs end at once.
    let handles = trials.iter().find(|trial| trial.saves()).map_or(Ok(true), Trial::handles_signals)?;
    if !handles {
        let reason = "signals (SIGTERM ends this program without a checkpoint)".to_owned();
        eprintln!("NOT RUN: {reason}");
        results.left_out.push(reason);
    }
    Ok(handles)
}

/// What holds for all trials.
struct Settings<'a> {
    options: &'a ChaosOptions,
    signals: bool,
    begun: Instant,
}

/// Runs the workloads in turn, interrupting them, until enough kills have hit.
fn interrupt_all(settings: &Settings<'_>, trials: &[Trial<'_>], results: &mut Results) -> Result<()> {
    let Settings { options, signals, begun } = *settings;
    for turn in 0.. {
        let most_kills = options.kills.saturating_sub(results.num_kills());
        if most_kills == 0 {
            break;
        }
        let (trial, number) = (&trials[turn % trials.len()], 1 + turn / trials.len());
        let disturbance = Disturbance { seed: options.seed, number, most_kills, signals, at_checkpoints: false };
        let mut run = Run::default();
        let outcome = trial.attempt(disturbance, &mut run);
        // What was done before a failure counts.
        results.tallies[turn % trials.len()].add(&run);
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

/// What was done to a run, and the outcome.
fn in_words(run: &Run) -> String {
    let word = if run.differences.is_empty() { "same bytes" } else { "DIFFERENT" };
    let mut text = format!("{word}; killed at {}", phases(&run.kills()));
    if !run.signals().is_empty() {
        text.push_str(&format!("; signals at {}", phases(&run.signals())));
    }
    run.differences.iter().for_each(|difference| text.push_str(&format!("\n    {difference}")));
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: ChaosOptions,
    }

    #[test]
    fn signals_are_sent_by_default() {
        let parsed = |args: &[&str]| Cli::try_parse_from([&["chaos"], args].concat()).expect("valid").options;
        let options = parsed(&["--work", "full", "--work", "lora"]);
        assert_eq!((options.kills, options.signals, options.work.len()), (300, true, 2));
        assert!(!parsed(&["--signals", "false"]).signals);
    }

    #[test]
    fn work_is_found_by_name() {
        let names = |names: &[&str]| named(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let (workloads, verbs) = names(&["lora", "merge", "loop"]).expect("work");
        assert_eq!((workloads[0].name, verbs[0].name, verbs[1].name), ("lora", "merge", "loop"));
        let error = names(&["merg"]).expect_err("nothing").to_string();
        assert!(error.contains("full, lora") && error.ends_with("export, convert"), "{error}");
        assert_eq!(names(&[]).expect("all").1.len(), VERBS.len());
    }
}
