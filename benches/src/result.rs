//! Results: every step measured, and the figures computed from them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use collimate_report::provenance::Machine;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::entrant::{Ready, Step};
use crate::figures::{median, range};

/// Name of our side.
pub const OURS: &str = "collimate";
/// Name of the other side.
pub const PEER: &str = "PyTorch";

/// One measurement of a work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkResult {
    /// The work's name.
    pub work: String,
    /// Description.
    pub title: String,
    /// The model's shape.
    pub shape: String,
    /// The commit that was measured, with `+` if the checkout differed from it.
    pub commit: String,
    /// The machine.
    pub machine: Machine,
    /// Threads of each entrant.
    pub threads: usize,
    /// Our backend; PyTorch computes on the same device.
    #[serde(default = "flex")]
    pub backend: String,
    /// The type both sides compute in.
    #[serde(default = "float32")]
    pub dtype: String,
    /// FLOPs of a step per token, policy and reference once each.
    #[serde(default)]
    pub flops_per_token: f64,
    /// Warm-up steps, which are excluded from all figures.
    pub num_warmup: usize,
    /// Prompts per step.
    pub groups_per_step: usize,
    /// The entrants' measurements.
    pub entrants: Vec<EntrantResult>,
    /// Figures of each entrant, and of ours against the others.
    #[serde(default)]
    pub figures: BTreeMap<String, Figures>,
}

fn flex() -> String {
    "flex".to_owned()
}

fn float32() -> String {
    "float32".to_owned()
}

/// Measurements of one entrant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntrantResult {
    /// Its name.
    pub label: String,
    /// Tokens of each step: each prompt once, and the responses.
    pub unique_tokens: Vec<usize>,
    /// Its work before the first step.
    pub ready: Ready,
    /// Every step, warm-up included.
    pub steps: Vec<Step>,
    /// Peak resident memory.
    pub peak_rss_bytes: u64,
    /// Peak GPU memory.
    #[serde(default)]
    pub peak_gpu_bytes: Option<u64>,
}

/// Figures of an entrant; medians over the measured steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Median seconds of a step that scores the reference.
    pub cold_seconds: f64,
    /// Median seconds of a step whose reference is cached.
    pub warm_seconds: f64,
    /// Prompts per second, scoring the reference.
    pub groups_per_second: f64,
    /// Tokens per second, scoring the reference: each prompt once and the responses, whatever is computed.
    pub tokens_per_second: f64,
    /// Peak resident memory.
    pub peak_rss_bytes: u64,
}

/// Ours against another entrant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratios {
    /// Median ratio of groups per second, both scoring the reference.
    pub cold: f64,
    /// Smallest and largest ratio of a single step, both scoring the reference.
    pub cold_range: (f64, f64),
    /// Ratio of groups per second, ours with a cached reference.
    pub warm: f64,
    /// Our peak memory divided by the other's.
    pub memory: f64,
}

impl EntrantResult {
    /// Seconds of each step including its reference.
    pub fn cold(&self) -> Vec<f64> {
        let reference = &self.ready.reference_seconds;
        let mean = reference.iter().sum::<f64>() / self.steps.len().max(1) as f64;
        let of_step = |i: usize| if reference.len() == self.steps.len() { reference[i] } else { mean };
        self.steps.iter().enumerate().map(|(i, step)| step.seconds + of_step(i)).collect()
    }

    fn figures(&self, groups_per_step: usize, num_warmup: usize) -> Figures {
        let cold = &self.cold()[num_warmup..];
        let warm: Vec<f64> = self.steps[num_warmup..].iter().map(|step| step.seconds).collect();
        let rates: Vec<f64> =
            self.unique_tokens[num_warmup..].iter().zip(cold).map(|(&n, seconds)| n as f64 / seconds).collect();
        Figures {
            cold_seconds: median(cold),
            warm_seconds: median(&warm),
            groups_per_second: groups_per_step as f64 / median(cold),
            tokens_per_second: median(&rates),
            peak_rss_bytes: self.peak_rss_bytes,
        }
    }
}

impl WorkResult {
    /// Computes the figures from the steps.
    #[must_use]
    pub fn with_figures(mut self) -> Self {
        let of = |e: &EntrantResult| (e.label.clone(), e.figures(self.groups_per_step, self.num_warmup));
        self.figures = self.entrants.iter().map(of).collect();
        self
    }

    /// Largest fraction of a core that other programs used during a measured step or its reference; `None` if unknown.
    pub fn disturbance(&self) -> Option<f64> {
        let steps = self.entrants.iter().flat_map(|entrant| entrant.steps.iter().skip(self.num_warmup));
        let steps = steps.map(|step| (step.other_cpu_seconds, step.seconds));
        // Ours scores the reference ahead of the steps.
        let ready = self.entrants.iter().map(|entrant| &entrant.ready);
        let scoring = ready.filter(|ready| !ready.reference_seconds.is_empty());
        let scoring = scoring.map(|ready| (ready.other_cpu_seconds, ready.ready_seconds));
        steps.chain(scoring).filter_map(|(others, seconds)| Some(others? / seconds)).reduce(f64::max)
    }

    /// Fraction of the device's peak that an entrant's steps reach, counting padding as work; `None` if the peak is
    /// unknown.
    pub fn fraction_of_peak(&self, entrant: &EntrantResult) -> Option<f64> {
        let peak = self.machine.peak_flops().filter(|_| self.backend != "flex" && self.flops_per_token > 0.0)?;
        let cold = entrant.cold();
        let parts = entrant.steps.iter().zip(cold).skip(self.num_warmup);
        let rates: Vec<f64> = parts.map(|(step, seconds)| step.tokens * self.flops_per_token / seconds).collect();
        Some(median(&rates) / peak)
    }

    /// The entrant with this name.
    pub fn entrant(&self, label: &str) -> Option<&EntrantResult> {
        self.entrants.iter().find(|entrant| entrant.label == label)
    }

    /// Ours against PyTorch, if it took part.
    pub fn ratios(&self) -> Option<Ratios> {
        let (ours, peer) = (self.entrant(OURS)?, self.entrant(PEER)?);
        let (a, b) = (self.figures.get(OURS)?, self.figures.get(PEER)?);
        let seconds: Vec<f64> = ours.steps.iter().map(|step| step.seconds).collect();
        let cold = self.step_ratios(&ours.cold(), &peer.cold());
        let warm = self.step_ratios(&seconds, &peer.cold());
        Some(Ratios {
            cold: median(&cold),
            cold_range: range(&cold),
            warm: median(&warm),
            memory: a.peak_rss_bytes as f64 / b.peak_rss_bytes as f64,
        })
    }

    /// The other's time divided by ours, for each measured step. Steps differ in tokens, so they are compared pairwise.
    fn step_ratios(&self, ours: &[f64], other: &[f64]) -> Vec<f64> {
        ours.iter().zip(other).skip(self.num_warmup).map(|(ours, other)| other / ours).collect()
    }
}

/// Writes results to a file, replacing older ones of the same work, shape, backend and type; returns all in the file.
///
/// # Errors
/// The file holds something else, or cannot be written.
pub fn store(path: &Path, new: &[WorkResult]) -> Result<Vec<WorkResult>> {
    let mut all: Vec<WorkResult> = if path.is_file() {
        let text = fs::read_to_string(path)?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
        serde_json::from_value(value["works"].clone())
            .with_context(|| format!("{} holds no results; remove it", path.display()))?
    } else {
        Vec::new()
    };
    for result in new {
        let key = |one: &WorkResult| (one.work.clone(), one.shape.clone(), one.backend.clone(), one.dtype.clone());
        all.retain(|old| key(old) != key(result));
        all.push(result.clone());
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(&serde_json::json!({"works": all}))?;
    fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entrant(label: &str, reference: &[f64], seconds: &[f64], peak: u64) -> EntrantResult {
        let step = |&seconds: &f64| Step {
            seconds,
            loss: 1.0,
            grad_norm: 1.0,
            tokens: 10.0,
            cpu_seconds: None,
            other_cpu_seconds: None,
        };
        EntrantResult {
            label: label.to_owned(),
            unique_tokens: vec![12; seconds.len()],
            ready: Ready { reference_seconds: reference.to_vec(), ..Ready::default() },
            steps: seconds.iter().map(step).collect(),
            peak_rss_bytes: peak,
            peak_gpu_bytes: None,
        }
    }

    fn result() -> WorkResult {
        WorkResult {
            work: "w".to_owned(),
            title: "a work".to_owned(),
            shape: "10m".to_owned(),
            commit: "c".to_owned(),
            machine: Machine::default(),
            threads: 2,
            backend: flex(),
            dtype: float32(),
            flops_per_token: 1e9,
            num_warmup: 1,
            groups_per_step: 2,
            entrants: vec![
                entrant(OURS, &[9.0, 1.0, 2.0, 1.0], &[9.0, 2.0, 2.0, 3.0], 25),
                entrant(PEER, &[], &[99.0, 12.0, 8.0, 16.0], 100),
            ],
            figures: BTreeMap::new(),
        }
        .with_figures()
    }

    #[test]
    fn the_warm_up_does_not_count_and_cold_steps_score_their_reference() {
        // Cold steps of ours take 3, 4 and 4 seconds, warm ones 2, 2 and 3; PyTorch's 12, 8 and 16.
        let ratios = result().ratios().expect("both took part");
        let expected = Ratios { cold: 16.0 / 4.0, cold_range: (8.0 / 4.0, 12.0 / 3.0), warm: 16.0 / 3.0, memory: 0.25 };
        assert_eq!(ratios, expected);
        let ours = result().figures[OURS];
        assert_eq!((ours.groups_per_second, ours.tokens_per_second), (2.0 / 4.0, 12.0 / 4.0));
    }

    #[test]
    fn the_part_of_the_peak_is_of_cold_steps() {
        let mut result = result();
        assert_eq!(result.fraction_of_peak(&result.entrants[0]), None, "a processor");
        result.backend = "cuda".to_owned();
        result.machine.gpus = vec!["NVIDIA A100-SXM4-80GB".to_owned()];
        // Ten tokens of 10⁹ operations in 4 s, of 312·10¹².
        let part = result.fraction_of_peak(&result.entrants[0]).expect("a known GPU");
        assert!((part / (10.0 * 1e9 / 4.0 / 312e12) - 1.0).abs() < 1e-12, "{part}");
    }

    #[test]
    fn a_reference_in_other_packs_is_spread_over_the_steps() {
        assert_eq!(entrant(OURS, &[3.0, 3.0, 2.0], &[1.0, 2.0], 1).cold(), [1.0 + 8.0 / 2.0, 2.0 + 8.0 / 2.0]);
    }
}
