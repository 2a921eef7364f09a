//! A measurement: entrants take their steps in turns.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use collimate_report::provenance::{Machine, commit};

use crate::assets;
use crate::compute::ComputeSettings;
use crate::entrant::{Entrant, Ready, Step};
use crate::machine::{gpu_bytes, num_busy, touch_memory};
use crate::result::{CONTROL, EntrantResult, OURS, PEER, WorkResult};
use crate::rows::{self, Prepared};
use crate::work::{Shape, Task, Work};

/// How to measure works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The checkout.
    pub root: PathBuf,
    /// Folder for models, data and runs.
    pub scratch: PathBuf,
    /// Folder of the data files.
    pub data: PathBuf,
    /// The program of our side.
    pub ours: PathBuf,
    /// PyTorch's entrants; none to run ours alone.
    pub rivals: Vec<Rival>,
    /// Measured steps.
    pub num_steps: usize,
    /// Warm-up steps before them.
    pub num_warmup: usize,
    /// The device and the type.
    pub compute: ComputeSettings,
}

/// An entrant in PyTorch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// Its name in tables: [`PEER`] or [`CONTROL`].
    pub label: &'static str,
    /// Its script in `benches/peer`.
    script: &'static str,
    /// Python with PyTorch.
    python: PathBuf,
}

impl Rival {
    /// The published recipe.
    pub fn recipe(python: PathBuf) -> Self {
        Self { label: PEER, script: "step.py", python }
    }

    /// Packed without padding, with a cached reference.
    pub fn control(python: PathBuf) -> Self {
        Self { label: CONTROL, script: "packed.py", python }
    }

    fn command(&self, root: &Path, prepared: &Prepared) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(root.join("benches/peer").join(self.script)).arg(&prepared.peer);
        command
    }
}

/// Fraction of a step's time that other programs may use before it is reported.
const DISTURBANCE: f64 = 0.1;
/// Pause between entrants: the previous one's threads keep spinning for some milliseconds.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for other programs before a step.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for them in a whole work: a machine that is always busy is measured as it is, and the results say so.
const WHOLE_PATIENCE: Duration = Duration::from_secs(240);

/// Measures a work.
///
/// # Errors
/// An entrant fails, or ours and PyTorch differ in loss or gradient.
pub fn measure(work: &Work, shape: &Shape, settings: &Settings) -> Result<WorkResult> {
    let folder = settings.scratch.join(shape.name);
    let assets = assets::prepare(shape, &settings.data, &folder)?;
    let total = settings.num_warmup + settings.num_steps;
    let mut entrants: Vec<(Entrant, Prepared)> = Vec::new();
    let on_processor = settings.compute.on_processor();
    let mut patience = Patience::new(on_processor);
    if on_processor {
        touch_memory();
    }
    for (i, (label, task)) in work.tasks.iter().enumerate() {
        let folder = folder.join(work.name).join(i.to_string());
        let prepared = rows::write(task, &assets, &settings.data, &folder, total, &settings.compute)?;
        let label = if label.is_empty() { OURS } else { label };
        entrants.push((start(label, ours(settings, &prepared), &mut patience)?, prepared.clone()));
        for rival in settings.rivals.iter().filter(|_| work.has_peer()) {
            let command = rival.command(&settings.root, &prepared);
            entrants.push((start(rival.label, command, &mut patience)?, prepared.clone()));
        }
    }
    let steps = take_turns(&mut entrants, total, &settings.compute, &mut patience)?;
    let mut results = Vec::new();
    for ((entrant, prepared), steps) in entrants.into_iter().zip(steps) {
        results.push(EntrantResult {
            label: entrant.label.clone(),
            unique_tokens: prepared.tokens.iter().map(|tokens| tokens.prompt + tokens.response).collect(),
            ready: entrant.ready.clone(),
            steps,
            peak_gpu_bytes: entrant.peak_gpu_bytes,
            peak_rss_bytes: entrant.quit()?,
        });
    }
    let result = WorkResult {
        work: work.name.to_owned(),
        title: work.title.to_owned(),
        shape: shape.name.to_owned(),
        commit: commit(&settings.root),
        machine: Machine::here(),
        threads: settings.compute.threads,
        backend: settings.compute.backend.clone(),
        dtype: settings.compute.dtype().to_owned(),
        precision: settings.compute.precision.name().to_owned(),
        flops_per_token: work.tasks.first().map_or(0.0, |(_, task)| shape.step_flops(1.0, task.lora)),
        num_warmup: settings.num_warmup,
        groups_per_step: groups_per_step(work.tasks),
        entrants: results,
        figures: Default::default(),
    };
    Ok(result.with_figures())
}

fn start(label: &str, command: Command, patience: &mut Patience) -> Result<Entrant> {
    patience.wait_for_quiet();
    let entrant = Entrant::start(label, command)?;
    let Ready { ready_seconds, reference_seconds, other_cpu_seconds, .. } = &entrant.ready;
    let reference: f64 = reference_seconds.iter().fold(0.0, |sum, seconds| sum + seconds);
    let disturbed = disturbed(*other_cpu_seconds, *ready_seconds);
    eprintln!(
        "  {label:<10} ready after {ready_seconds:.2} s, {reference:.2} s of it scoring the reference{disturbed}"
    );
    Ok(entrant)
}

/// A note on other programs that used much of a step's time.
fn disturbed(others: Option<f64>, seconds: f64) -> String {
    match others {
        Some(others) if others > DISTURBANCE * seconds => format!("  DISTURBED by {others:.2} s of others"),
        _ => String::new(),
    }
}

fn groups_per_step(tasks: &[(&str, Task)]) -> usize {
    tasks.first().map_or(1, |(_, task)| task.groups_per_step)
}

/// Each entrant's steps, taken in turns.
fn take_turns(
    entrants: &mut [(Entrant, Prepared)],
    total: usize,
    compute: &ComputeSettings,
    patience: &mut Patience,
) -> Result<Vec<Vec<Step>>> {
    let on_processor = compute.on_processor();
    let mut steps: Vec<Vec<Step>> = vec![Vec::new(); entrants.len()];
    for number in 1..=total {
        for ((entrant, _), steps) in entrants.iter_mut().zip(&mut steps) {
            patience.wait_for_quiet();
            let step = entrant.step()?;
            report(&format!("step {number}/{total}  {:<10}", entrant.label), &step);
            if !on_processor {
                entrant.peak_gpu_bytes = entrant.peak_gpu_bytes.max(gpu_bytes(entrant.process()));
            }
            steps.push(step);
        }
        check_equal(entrants, &steps, compute)?;
    }
    Ok(steps)
}

/// What is left of the patience with other programs during a work; none where a GPU does the work.
struct Patience(Duration);

impl Patience {
    fn new(on_processor: bool) -> Self {
        Self(if on_processor { WHOLE_PATIENCE } else { Duration::ZERO })
    }

    /// Waits until the CPU is idle, up to the limits; always for the previous entrant's threads.
    fn wait_for_quiet(&mut self) {
        let begun = Instant::now();
        let limit = self.0.min(PATIENCE);
        while num_busy(PAUSE) > DISTURBANCE && begun.elapsed() < limit {}
        self.0 = self.0.saturating_sub(begun.elapsed());
    }
}

fn report(what: &str, step: &Step) {
    let Step { seconds, loss, grad_norm, cpu_seconds, other_cpu_seconds, .. } = step;
    let (own, disturbed) = (cpu_seconds.unwrap_or(f64::NAN), disturbed(*other_cpu_seconds, *seconds));
    eprintln!("  {what} {seconds:>8.2} s  processor {own:>7.2} s  loss {loss:.6}  gradient {grad_norm:.5}{disturbed}");
}

/// Checks that ours and PyTorch's did the same in their last steps.
fn check_equal(entrants: &[(Entrant, Prepared)], steps: &[Vec<Step>], compute: &ComputeSettings) -> Result<()> {
    let of = |label: &str| {
        let index = entrants.iter().position(|(entrant, _)| entrant.label == label)?;
        Some(&steps[index][..])
    };
    let Some(ours) = of(OURS).and_then(<[Step]>::last) else { return Ok(()) };
    for rival in [PEER, CONTROL] {
        of(rival).map_or(Ok(()), |steps| agree(ours, rival, steps, compute))?;
    }
    Ok(())
}

/// Compares a step with the last one of a rival's; in sixteen bits the first one only: a rival that holds its weights in bfloat16
/// alone loses most of a small update, and small gradients are mostly rounding, so that from then on the weights are not the same.
fn agree(ours: &Step, rival: &str, steps: &[Step], compute: &ComputeSettings) -> Result<()> {
    let Some(other) = steps.last().filter(|_| steps.len() == 1 || !compute.has_narrow_factors()) else { return Ok(()) };
    let [of_loss, of_norm] = compute.tolerances();
    let figures =
        [("losses", ours.loss, other.loss, of_loss), ("gradient norms", ours.grad_norm, other.grad_norm, of_norm)];
    for (what, ours, other, tolerance) in figures {
        // NaN never agrees.
        let agrees = (ours - other).abs() <= tolerance * other.abs();
        if !agrees {
            bail!("the {what} differ, so the work is not the same: {OURS} {ours}, {rival} {other}");
        }
    }
    Ok(())
}

fn ours(settings: &Settings, prepared: &Prepared) -> Command {
    let mut command = Command::new(&settings.ours);
    command.arg(&prepared.recipe);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_with_a_busy_machine_ends() {
        let begun = Instant::now();
        let mut patience = Patience(Duration::from_millis(1));
        for _ in 0..3 {
            patience.wait_for_quiet();
        }
        assert_eq!(patience.0, Duration::ZERO);
        assert!(begun.elapsed() >= 3 * PAUSE && begun.elapsed() < PATIENCE);
    }

    fn step(loss: f64, grad_norm: f64) -> Step {
        Step { seconds: 1.0, loss, grad_norm, tokens: 1.0, cpu_seconds: None, other_cpu_seconds: None }
    }

    fn settings(bf16: bool) -> ComputeSettings {
        ComputeSettings { backend: "flex".to_owned(), device: 0, bf16, precision: Default::default(), threads: 2 }
    }

    #[test]
    fn steps_agree_within_the_tolerances() {
        let (peer, float32) = ([step(2.0, 10.0)], settings(false));
        let agrees = |loss, norm| agree(&step(loss, norm), PEER, &peer, &float32);
        assert!(agrees(2.0 * (1.0 + 0.9e-3), 10.0 * (1.0 - 0.9e-2)).is_ok());
        let error = agrees(2.0 * (1.0 + 1.1e-3), 10.0).expect_err("another loss").to_string();
        assert!(error.contains("losses differ"), "{error}");
        assert!(agrees(2.0, 10.2).is_err());
        assert!(agrees(f64::NAN, 10.0).is_err());
    }

    #[test]
    fn in_sixteen_bits_the_first_step_agrees() {
        let agrees = |steps: &[Step], norm, bf16| agree(&step(2.0, norm), PEER, steps, &settings(bf16)).is_ok();
        let (first, later) = ([step(2.0, 10.0)], [step(2.0, 10.0), step(2.0, 0.1)]);
        assert!(agrees(&first, 10.4, true) && !agrees(&first, 10.6, true) && !agrees(&first, 10.4, false));
        assert!(agrees(&later, 2.0, true) && !agrees(&later, 2.0, false));
        assert!(agree(&step(2.1, 10.0), PEER, &first, &settings(true)).is_err());
    }
}
