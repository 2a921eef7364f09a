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
/// Name of the published recipe in PyTorch.
pub const PEER: &str = "PyTorch";
/// Name of PyTorch with packed prompts and a cached reference.
pub const CONTROL: &str = "PyTorch, packed";

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
    /// How exact products in float32 are.
    #[serde(default = "highest")]
    pub precision: String,
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

fn highest() -> String {
    "highest".to_owned()
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

    /// Seconds of each step with a cached reference.
    pub fn warm(&self) -> Vec<f64> {
        self.steps.iter().map(|step| step.seconds).collect()
    }

    fn figures(&self, groups_per_step: usize, num_warmup: usize) -> Figures {
        let cold = &self.cold()[num_warmup..];
        let warm = &self.warm()[num_warmup..];
        let rates: Vec<f64> =
            self.unique_tokens[num_warmup..].iter().zip(cold).map(|(&n, seconds)| n as f64 / seconds).collect();
        Figures {
            cold_seconds: median(cold),
            warm_seconds: median(warm),
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

    /// The type of all entrants, for headings: types of different names are not compared.
    pub fn number_type(&self) -> String {
        match self.precision.as_str() {
            "highest" => self.dtype.clone(),
            precision => format!("{}, products at `{precision}`", self.dtype),
        }
    }

    /// Ours against the published recipe, if it took part.
    pub fn ratios(&self) -> Option<Ratios> {
        let (ours, peer) = (self.entrant(OURS)?, self.entrant(PEER)?);
        let (a, b) = (self.figures.get(OURS)?, self.figures.get(PEER)?);
        let cold = self.step_ratios(&ours.cold(), &peer.cold());
        let warm = self.step_ratios(&ours.warm(), &peer.cold());
        Some(Ratios {
            cold: median(&cold),
            cold_range: range(&cold),
            warm: median(&warm),
            memory: a.peak_rss_bytes as f64 / b.peak_rss_bytes as f64,
        })
    }

    /// The other's time divided by ours, for each measured step. Steps differ in tokens, so they are compared pairwise.
    pub(crate) fn step_ratios(&self, ours: &[f64], other: &[f64]) -> Vec<f64> {
        ours.iter().zip(other).skip(self.num_warmup).map(|(ours, other)| other / ours).collect()
    }
}

/// Writes results to a file, replacing older ones of the same work, shape, backend, type and precision; returns all in it.
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
        let key = |one: &WorkResult| {
            [&one.work, &one.shape, &one.backend, &one.dtype, &one.precision].map(|field| field.to_owned())
        };
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
pub(crate) mod tests;
