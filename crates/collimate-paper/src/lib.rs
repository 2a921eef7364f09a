//! What the NCA paper (arXiv 2402.05369) claims, measured on one's own machine; `cargo xtask paper` runs it all.
//!
//! ```text
//! theory       tabular policies in float64: optima, limits, convergence to π*
//! falling      likelihood of chosen and rejected responses over the steps, on GSM8K
//! ablation     K responses with rewards against pairs, on the quickstart's task
//! reasoning    SFT, DPO, KTO, InfoNCA and NCA on that task
//! sensitivity  α and β on that task
//! pictures     condition contrastive alignment of the quickstart's generator of pictures, on a page of its own
//! page         the page that presents the numbers and figures
//! ```
//!
//! Start at [`run`], then at an experiment. Every experiment consists of stages ([`stage::Stages`]) whose results are kept
//! under their settings, so an interrupted run continues where it stopped. The tests run a short form of each experiment.
//!
//! ```
//! let accuracy = collimate_paper::stats::Estimate::from_values(&[0.9, 0.92, 0.94]);
//! assert_eq!(accuracy.percent(), "92.0 ± 1.2");
//! ```
//!
//! It uses the other crates as a user would, and must not know their insides.

pub mod ablation;
pub mod falling;
pub mod minimize;
pub mod options;
pub mod page;
pub mod pictures;
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

/// The findings of the experiments; absent if an experiment was not selected.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// Theorems on tabular policies.
    pub theory: Option<theory::Theory>,
    /// Likelihoods over the steps.
    pub falling: Option<falling::Falling>,
    /// K responses against pairs.
    pub ablation: Option<ablation::Ablation>,
    /// Comparison of objectives.
    pub reasoning: Option<reasoning::Reasoning>,
    /// Sensitivity to α and β.
    pub sensitivity: Option<sensitivity::Sensitivity>,
    /// Pictures without guidance; they have a file of their own.
    #[serde(skip)]
    pub pictures: Option<pictures::Pictures>,
}

/// Runs the selected experiments and writes the page.
///
/// # Errors
/// A folder that cannot be written, data that cannot be read, or a training run that failed.
pub fn run(options: &Options) -> Result<()> {
    let stages = Stages::new(&options.work, collimate_report::provenance::commit(&options.root))?;
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
            Experiment::Pictures => found.pictures = Some(pictures::run(&stages, &size.pictures)?),
        }
    }
    page::write(options, &found, &stages)
}
