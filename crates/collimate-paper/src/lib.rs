//! What the NCA paper (arXiv 2402.05369) claims, measured on one's own machine; `cargo xtask paper` runs it all.
//!
//! ```text
//! theory       tabular policies in float64: optima, limits, convergence to π*
//! falling      the likelihood of chosen and rejected responses over the steps, on GSM8K
//! ablation     K responses with rewards against pairs, on the quickstart's task
//! reasoning    SFT, DPO, KTO, InfoNCA and NCA on that task
//! sensitivity  α and β on that task
//! page         the page with figures and numbers that all of it ends in
//! ```
//!
//! Every experiment is made of stages (`stage`), each kept under its settings, so a run that was stopped goes on. Each has
//! a short form among the tests.

pub mod ablation;
pub mod charts;
pub mod falling;
pub mod minimise;
pub mod options;
pub mod page;
pub mod plugins;
pub mod reasoning;
pub mod sensitivity;
pub mod stage;
pub mod stats;
pub mod tabular;
pub mod task;
pub mod theory;

use anyhow::Result;
// The built-in objectives register themselves once they are linked.
use collimate_objectives as _;
use serde::Serialize;

use crate::options::{Experiment, Options};
use crate::stage::Stages;

/// What the experiments found; those that were not asked for are absent.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// Tabular policies.
    pub theory: Option<theory::Theory>,
    /// The likelihood over the steps.
    pub falling: Option<falling::Falling>,
    /// K responses against pairs.
    pub ablation: Option<ablation::Ablation>,
    /// Objectives against each other.
    pub reasoning: Option<reasoning::Reasoning>,
    /// α and β.
    pub sensitivity: Option<sensitivity::Sensitivity>,
}

/// Runs the experiments asked for, and writes the page.
///
/// # Errors
/// A folder that cannot be written, data that cannot be read, or a training run that failed.
pub fn run(options: &Options) -> Result<()> {
    let stages = Stages::new(&options.work, collimate_benches::machine::commit(&options.root))?;
    let size = options.size();
    let mut found = Findings::default();
    for experiment in options.experiments() {
        eprintln!("== {}", experiment.title());
        match experiment {
            Experiment::Theory => found.theory = Some(theory::run(&stages, &size.theory)?),
            Experiment::Falling => {
                found.falling = Some(falling::run(&stages, &size.falling, options.data.as_deref())?);
            }
            Experiment::Ablation => found.ablation = Some(ablation::run(&stages, &size.task)?),
            Experiment::Reasoning => found.reasoning = Some(reasoning::run(&stages, &size.task)?),
            Experiment::Sensitivity => {
                found.sensitivity = Some(sensitivity::run(&stages, &size.task, &size.sensitivity)?);
            }
        }
    }
    page::write(options, &found, &stages)
}
