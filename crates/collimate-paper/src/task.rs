//! The quickstart's task: sample once, select what a method sees, train, measure.

mod data;
mod measure;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use collimate_quickstart::assets::write_base;
use collimate_recipe::Recipe;
use collimate_text::TextTokenizer;
use collimate_train::progress::Silent;
use collimate_train::{RunControl, load_recipe, train};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use data::Selection;
pub use measure::Outcome;

use crate::stage::Stages;
use crate::stats::Estimate;

/// Responses sampled for each problem.
pub const NUM_SAMPLED: usize = 8;

/// The size of experiments on the task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskSize {
    /// Problems to sample responses for.
    pub num_problems: usize,
    /// Held-out problems to measure on.
    pub num_test: usize,
    /// Other held-out problems, to choose the learning rate.
    pub num_validation: usize,
    /// Optimizer steps of every run.
    pub num_steps: usize,
    /// Learning rates to choose from.
    pub learning_rates: Vec<f64>,
    /// Seed of the runs that choose the learning rate.
    pub tuning_seed: u64,
    /// Seeds of the measured runs: of problems, responses and data order.
    pub seeds: Vec<u64>,
    /// Numbers of responses, K.
    pub num_responses: Vec<usize>,
}

impl TaskSize {
    /// The full size, for the page.
    pub fn full() -> Self {
        Self {
            num_problems: 512,
            num_test: 300,
            num_validation: 120,
            num_steps: 64,
            learning_rates: vec![1e-5, 3e-5, 1e-4, 3e-4],
            tuning_seed: 11,
            seeds: vec![1, 2, 3],
            num_responses: vec![2, 3, 4, 6, 8],
        }
    }

    /// A quick size, to see that it works.
    pub fn quick() -> Self {
        Self {
            num_problems: 48,
            num_test: 24,
            num_validation: 16,
            num_steps: 6,
            learning_rates: vec![2e-4, 4e-4],
            tuning_seed: 11,
            seeds: vec![1, 2],
            num_responses: vec![2, 8],
        }
    }
}

/// An objective with its parameters and a selection of responses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Method {
    /// Name on the page.
    pub name: String,
    /// The objective, as in a recipe.
    pub objective: Value,
    /// The responses it sees.
    pub selection: Selection,
}

/// The results of a method.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MethodResult {
    /// The method.
    pub method: Method,
    /// Learning rates with their validation scores.
    pub tried: Vec<(f64, f64)>,
    /// The best learning rate.
    pub learning_rate: f64,
    /// One run per seed.
    pub runs: Vec<Outcome>,
}

impl MethodResult {
    /// Mean and error over the runs.
    pub fn estimate(&self, figure: impl Fn(&Outcome) -> f64) -> Estimate {
        Estimate::from_values(&self.runs.iter().map(figure).collect::<Vec<_>>())
    }
}

/// A part of the held-out problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum HeldOutPart {
    /// For choosing the learning rate.
    Validation,
    /// For the figures.
    Test,
}

/// The task with its stages.
#[derive(Debug)]
pub struct Task<'a> {
    stages: &'a Stages,
    size: &'a TaskSize,
    base: PathBuf,
    eval_data: PathBuf,
}

impl<'a> Task<'a> {
    /// Writes the base model and the groups on which likelihoods are measured.
    ///
    /// # Errors
    /// A file that cannot be written, or sampling that failed.
    pub fn new(stages: &'a Stages, size: &'a TaskSize) -> Result<Self> {
        let base = stages.files("task: base model", &json!({}), |dir| Ok(write_base(dir)?))?;
        let settings = json!({"problems": size.num_validation});
        let eval = stages.files("task: groups of held-out problems", &settings, |dir| {
            data::sample_held_out(&base, size, &dir.join("data.jsonl"))
        })?;
        Ok(Self { stages, size, base, eval_data: eval.join("data.jsonl") })
    }

    /// The base model's figures on the test problems.
    ///
    /// # Errors
    /// As [`Task::run`].
    pub fn base_outcome(&self) -> Result<Outcome> {
        self.stages.value("task: base model on the test problems", &json!({"test": self.size.num_test}), |_| {
            measure::solve_part(&self.base, self.size, HeldOutPart::Test)
        })
    }

    /// Chooses the learning rate on the validation problems, then trains every seed and measures it on the test problems.
    ///
    /// # Errors
    /// A run that failed.
    pub fn run(&self, method: &Method) -> Result<MethodResult> {
        let mut tried = Vec::new();
        for &rate in &self.size.learning_rates {
            let outcome = self.trained(method, rate, self.size.tuning_seed, HeldOutPart::Validation)?;
            tried.push((rate, outcome.score()));
        }
        let best = tried.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best });
        let learning_rate = best.context("no learning rate to choose from")?.0;
        let runs = self.size.seeds.iter().map(|&seed| self.trained(method, learning_rate, seed, HeldOutPart::Test));
        Ok(MethodResult { runs: runs.collect::<Result<_>>()?, method: method.clone(), tried, learning_rate })
    }

    /// Trains one run and measures it on a part of the held-out problems.
    ///
    /// # Errors
    /// A run that failed.
    pub fn trained(&self, method: &Method, learning_rate: f64, seed: u64, part: HeldOutPart) -> Result<Outcome> {
        let size = self.size;
        let held_out = match part {
            HeldOutPart::Validation => size.num_validation,
            HeldOutPart::Test => size.num_test,
        };
        let settings = json!({
            "objective": method.objective, "selection": method.selection, "learning_rate": learning_rate,
            "seed": seed, "problems": size.num_problems, "steps": size.num_steps, "part": part,
            "held_out": held_out, "eval": size.num_validation,
        });
        let name = format!("task: {}, learning rate {learning_rate:e}, seed {seed}, {part:?}", method.name);
        let samples = self.samples(seed)?;
        self.stages.value(&name, &settings, |dir| {
            let data = dir.join("data.jsonl");
            data::select(&samples.join("data.jsonl"), method.selection, seed, &data)?;
            let run = dir.join("run");
            let recipe = self.recipe(method, learning_rate, seed, &data, &run)?;
            let summary = train(&recipe, &mut Silent, &RunControl::default())?;
            let mut outcome = measure::solve_part(&run, size, part)?;
            outcome.note_likelihoods(&summary.evaluations);
            outcome.train_seconds = summary.seconds;
            Ok(outcome)
        })
    }

    /// Samples and scores eight responses to each problem of a seed.
    fn samples(&self, seed: u64) -> Result<PathBuf> {
        let settings = json!({"seed": seed, "problems": self.size.num_problems});
        self.stages.files(&format!("task: sampling, seed {seed}"), &settings, |dir| {
            data::sample_training(&self.base, seed, self.size.num_problems, &dir.join("data.jsonl"))
        })
    }

    fn recipe(&self, method: &Method, learning_rate: f64, seed: u64, data: &Path, run: &Path) -> Result<Recipe> {
        let settings = [
            ("model_name_or_path", self.base.display().to_string()),
            ("data", data.display().to_string()),
            ("eval_data", self.eval_data.display().to_string()),
            ("output_dir", run.display().to_string()),
            ("reference_cache", self.stages.reference_cache().display().to_string()),
            ("objective", method.objective.to_string()),
            ("learning_rate", learning_rate.to_string()),
            ("max_steps", self.size.num_steps.to_string()),
            ("per_device_train_batch_size", "16".to_owned()),
            ("per_device_eval_batch_size", "16".to_owned()),
            ("max_length", "128".to_owned()),
            ("max_prompt_length", "64".to_owned()),
            ("seed", seed.to_string()),
        ];
        recipe_with(&settings)
    }
}

/// A recipe with these keys.
///
/// # Errors
/// An unknown key, or a value out of range.
pub fn recipe_with(settings: &[(&str, String)]) -> Result<Recipe> {
    let settings: Vec<(String, String)> = settings.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    Ok(load_recipe(None, &settings)?)
}

/// The tokenizer of a model's folder.
fn tokenizer(dir: &Path) -> Result<TextTokenizer> {
    Ok(TextTokenizer::from_model_dir(dir)?)
}

/// Reads JSON Lines.
fn read_rows(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Writes JSON Lines.
///
/// # Errors
/// The file cannot be written.
pub fn write_rows(path: &Path, rows: impl IntoIterator<Item = Value>) -> Result<()> {
    let text: String = rows.into_iter().map(|row| format!("{row}\n")).collect();
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
