//! Accuracy over a grid of α and β.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ablation::method;
use crate::stage::Stages;
use crate::stats::Estimate;
use crate::task::{HeldOutPart, NUM_SAMPLED, Outcome, Selection, Task, TaskSize};

/// The grid.
#[derive(Debug, Clone)]
pub struct SensitivitySize {
    /// Reward temperatures.
    pub alphas: Vec<f64>,
    /// Scales of the implicit reward.
    pub betas: Vec<f64>,
    /// Seeds per cell.
    pub seeds: Vec<u64>,
    /// Learning rate of all cells: the largest in the tuning range, so that failures show.
    pub learning_rate: f64,
}

impl SensitivitySize {
    /// The full size, for the page.
    pub fn full() -> Self {
        Self {
            alphas: vec![0.05, 0.15, 0.33, 1.0],
            betas: vec![0.1, 0.3, 1.0, 3.0],
            seeds: vec![1, 2],
            learning_rate: 3e-4,
        }
    }

    /// A quick size, to see that it works.
    pub fn quick() -> Self {
        Self { alphas: vec![0.15, 10.0], betas: vec![1.0], seeds: vec![1], learning_rate: 3e-4 }
    }
}

/// The findings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sensitivity {
    /// Learning rate of all cells.
    pub learning_rate: f64,
    /// Seeds per cell.
    pub seeds: Vec<u64>,
    /// Reward temperatures.
    pub alphas: Vec<f64>,
    /// Scales of the implicit reward.
    pub betas: Vec<f64>,
    /// One grid per objective.
    pub grids: Vec<Grid>,
}

/// The runs of an objective.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Grid {
    /// The objective.
    pub objective: String,
    /// Results by α, β and seed.
    pub cells: Vec<Vec<Vec<Outcome>>>,
}

impl Grid {
    /// Means of a figure over seeds, by α and β.
    pub fn means(&self, figure: impl Fn(&Outcome) -> f64) -> Vec<Vec<Estimate>> {
        let cell = |runs: &Vec<Outcome>| Estimate::from_values(&runs.iter().map(&figure).collect::<Vec<_>>());
        self.cells.iter().map(|row| row.iter().map(cell).collect()).collect()
    }
}

/// Runs the experiment.
///
/// # Errors
/// A run that failed.
pub fn run(stages: &Stages, task_size: &TaskSize, size: &SensitivitySize) -> Result<Sensitivity> {
    let task = Task::new(stages, task_size)?;
    let learning_rate = size.learning_rate;
    let mut grids = Vec::new();
    for name in ["nca", "infonca"] {
        let mut cells = Vec::new();
        for &alpha in &size.alphas {
            let mut row = Vec::new();
            for &beta in &size.betas {
                let objective = json!({"name": name, "beta": beta, "alpha": alpha});
                let cell =
                    method(&format!("{name}, α = {alpha}, β = {beta}"), objective, Selection::First(NUM_SAMPLED));
                let runs = size.seeds.iter().map(|&seed| task.trained(&cell, learning_rate, seed, HeldOutPart::Test));
                row.push(runs.collect::<Result<Vec<_>>>()?);
            }
            cells.push(row);
        }
        grids.push(Grid { objective: name.to_owned(), cells });
    }
    let (alphas, betas, seeds) = (size.alphas.clone(), size.betas.clone(), size.seeds.clone());
    Ok(Sensitivity { learning_rate, seeds, alphas, betas, grids })
}
