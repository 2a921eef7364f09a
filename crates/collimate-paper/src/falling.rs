//! The likelihood of chosen and rejected responses over the steps of DPO, InfoNCA and NCA, on real solutions.

mod data;
mod model;

use std::path::{Path, PathBuf};

use anyhow::Result;
use collimate_report::read_metrics;
use collimate_train::progress::Silent;
use collimate_train::{RunControl, train};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::stage::Stages;
use crate::stats::Estimate;
use crate::task::recipe_with;

/// The size of the experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FallingSize {
    /// Questions that the base model is trained on.
    pub num_sft: usize,
    /// Passes over those questions.
    pub sft_epochs: f64,
    /// Questions for preference training; those whose responses all have the same reward are left out.
    pub num_preference: usize,
    /// Held-out questions.
    pub num_held_out: usize,
    /// Optimizer steps of each objective.
    pub num_steps: usize,
    /// Questions per step.
    pub batch_size: usize,
    /// Steps between measurements.
    pub eval_steps: usize,
    /// Learning rate of each objective.
    pub learning_rate: f64,
    /// β of each objective.
    pub beta: f64,
    /// α of NCA and InfoNCA.
    pub alpha: f64,
    /// Seeds of the base model's weights and of the data order.
    pub seeds: Vec<u64>,
    /// Width of the model.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Maximum size of the vocabulary.
    pub vocab: usize,
}

impl FallingSize {
    /// The full size, for the page.
    pub fn full() -> Self {
        Self {
            num_sft: 480,
            sft_epochs: 3.0,
            num_preference: 480,
            num_held_out: 160,
            num_steps: 48,
            batch_size: 12,
            eval_steps: 6,
            learning_rate: 2e-4,
            beta: 0.1,
            alpha: 0.33,
            seeds: vec![1, 2, 3],
            hidden: 192,
            layers: 4,
            vocab: 2048,
        }
    }

    /// A quick size, to see that it works.
    pub fn quick() -> Self {
        Self {
            num_sft: 48,
            sft_epochs: 1.0,
            num_preference: 48,
            num_held_out: 24,
            num_steps: 4,
            eval_steps: 2,
            seeds: vec![1],
            hidden: 64,
            layers: 2,
            vocab: 512,
            ..Self::full()
        }
    }
}

/// The findings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Falling {
    /// Whether the data is GSM8K; otherwise it is generated.
    pub real: bool,
    /// Numbers of questions with different rewards, for training and held out.
    pub num_questions: (usize, usize),
    /// Number of the model's parameters.
    pub num_parameters: usize,
    /// Mean log-prob per token of the held-out right solutions, for each seed's base model.
    pub base_token_logp: Vec<f64>,
    /// Seeds of the runs.
    pub seeds: Vec<u64>,
    /// One curve per objective and seed.
    pub curves: Vec<Curve>,
}

/// The figures of a run over its steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Curve {
    /// The objective.
    pub objective: String,
    /// The seed.
    pub seed: u64,
    /// On held-out questions.
    pub held_out: Vec<Moment>,
    /// On the questions of each step, before its update.
    pub training: Vec<Moment>,
}

/// Changes against the base model at a step, in nats per response.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Finished steps.
    pub step: f64,
    /// log π − log π_ref of the first right response.
    pub chosen: f64,
    /// The mean over the other responses.
    pub rejected: f64,
    /// Share of questions whose chosen response moved above the mean of the others.
    pub accuracy: f64,
}

impl Falling {
    /// A held-out figure after a step, over the seeds.
    pub fn held_out(&self, objective: &str, step: usize, figure: impl Fn(&Moment) -> f64) -> Estimate {
        let curves = self.curves.iter().filter(|curve| curve.objective == objective);
        let at = |curve: &Curve| curve.held_out.iter().find(|moment| moment.step == step as f64).map(&figure);
        Estimate::from_values(&curves.filter_map(at).collect::<Vec<_>>())
    }

    /// A figure on the training questions over the last `steps` steps.
    pub fn at_the_end(&self, objective: &str, steps: usize, figure: impl Fn(&Moment) -> f64) -> Estimate {
        let curves = self.curves.iter().filter(|curve| curve.objective == objective);
        let mean = |curve: &Curve| {
            let last = &curve.training[curve.training.len().saturating_sub(steps)..];
            last.iter().map(&figure).sum::<f64>() / last.len() as f64
        };
        Estimate::from_values(&curves.map(mean).collect::<Vec<_>>())
    }
}

/// The objectives; all have the same β, learning rate, data and number of steps.
pub const OBJECTIVES: [&str; 3] = ["dpo", "infonca", "nca"];

/// Trains a base model for each seed, then each objective from it.
///
/// # Errors
/// Data that cannot be read, or a run that failed.
pub fn run(stages: &Stages, size: &FallingSize, folder: Option<&Path>) -> Result<Falling> {
    let source = data::Source::find(folder)?;
    let split = stages.files("falling: data", &json!({"size": size, "data": source.fingerprint()}), |dir| {
        data::write(&source, size, dir)
    })?;
    let counts: (usize, usize) = data::counts(&split)?;
    let mut found = Falling {
        real: source.is_real(),
        num_questions: counts,
        num_parameters: 0,
        base_token_logp: Vec::new(),
        seeds: size.seeds.clone(),
        curves: Vec::new(),
    };
    for &seed in &size.seeds {
        let settings = json!({"size": size, "data": source.fingerprint(), "seed": seed});
        let base = stages.files(&format!("falling: base model, seed {seed}"), &settings, |dir| {
            model::make_base(&split, size, seed, dir)
        })?;
        let about: model::AboutBase = serde_json::from_str(&std::fs::read_to_string(base.join("about.json"))?)?;
        found.num_parameters = about.num_parameters;
        found.base_token_logp.push(about.token_logp);
        for name in OBJECTIVES {
            let curve = stages.value(&format!("falling: {name}, seed {seed}"), &settings, |dir| {
                let recipe = run_settings(name, seed, size, &RunPaths { split: &split, base: &base, run: dir }, stages);
                train(&recipe_with(&recipe)?, &mut Silent, &RunControl::default())?;
                curve(name, size, seed, &dir.join("run/metrics.jsonl"))
            })?;
            found.curves.push(curve);
        }
    }
    Ok(found)
}

/// Folders of a run: the split data, the base model's stage, and its own.
struct RunPaths<'a> {
    split: &'a Path,
    base: &'a Path,
    run: &'a Path,
}

fn run_settings(
    name: &str,
    seed: u64,
    size: &FallingSize,
    paths: &RunPaths<'_>,
    stages: &Stages,
) -> Vec<(&'static str, String)> {
    let objective = match name {
        "dpo" => json!({"name": name, "beta": size.beta}),
        _ => json!({"name": name, "beta": size.beta, "alpha": size.alpha}),
    };
    let path = |path: PathBuf| path.display().to_string();
    vec![
        ("model_name_or_path", path(paths.base.join("model"))),
        ("data", path(paths.split.join("preference.jsonl"))),
        ("eval_data", path(paths.split.join("held-out.jsonl"))),
        ("output_dir", path(paths.run.join("run"))),
        ("reference_cache", path(stages.reference_cache())),
        ("objective", objective.to_string()),
        ("learning_rate", size.learning_rate.to_string()),
        ("max_steps", size.num_steps.to_string()),
        ("per_device_train_batch_size", size.batch_size.to_string()),
        ("per_device_eval_batch_size", "16".to_owned()),
        ("eval_steps", size.eval_steps.to_string()),
        ("max_length", "512".to_owned()),
        ("max_prompt_length", "256".to_owned()),
        ("seed", seed.to_string()),
    ]
}

/// Log-ratios from the metrics: all three objectives have the implicit reward βΔ.
fn curve(name: &str, size: &FallingSize, seed: u64, metrics: &Path) -> Result<Curve> {
    let mut curve = Curve { objective: name.to_owned(), seed, held_out: Vec::new(), training: Vec::new() };
    for row in read_metrics(metrics)? {
        let moment = |prefix: &str, step: f64| -> Option<Moment> {
            let figure = |name: &str| row.get(&format!("{prefix}rewards/{name}"));
            let (chosen, rejected) = (figure("chosen")? / size.beta, figure("rejected")? / size.beta);
            Some(Moment { step, chosen, rejected, accuracy: figure("accuracies").unwrap_or(0.0) })
        };
        let step = row.get("step").unwrap_or(0.0);
        curve.held_out.extend(moment("eval_", step));
        // The figures of a step are from before its update.
        curve.training.extend(moment("", step - 1.0));
    }
    Ok(curve)
}

#[cfg(test)]
mod tests;
