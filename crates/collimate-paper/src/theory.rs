//! The paper's theorems, on tabular policies with the objectives that training uses.

pub mod convergence;
pub mod population;
pub mod responses;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::stage::Stages;

/// The size of the experiment.
#[derive(Debug, Clone)]
pub struct TheorySize {
    /// Random cases per statement about K responses.
    pub num_cases: u64,
    /// Random worlds for the statements about the population.
    pub num_worlds: u64,
    /// Numbers of prompts in the convergence experiment.
    pub num_prompts: Vec<usize>,
    /// Numbers of responses per prompt.
    pub num_responses: Vec<usize>,
    /// Data sets drawn.
    pub seeds: Vec<u64>,
}

impl TheorySize {
    /// The full size, for the page.
    pub fn full() -> Self {
        Self {
            num_cases: 1000,
            num_worlds: 20,
            num_prompts: vec![100, 316, 1000, 3162, 10_000],
            num_responses: vec![2, 4, 8, 16],
            seeds: (1..=10).collect(),
        }
    }

    /// A quick size, to see that it works.
    pub fn quick() -> Self {
        Self {
            num_cases: 50,
            num_worlds: 3,
            num_prompts: vec![100, 1000],
            num_responses: vec![2, 8],
            seeds: vec![1, 2],
        }
    }
}

/// The findings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Theory {
    /// Statements about K given responses.
    pub responses: responses::OverResponses,
    /// Statements about the population.
    pub population: population::OverPopulation,
    /// Convergence on sampled data.
    pub convergence: convergence::Convergence,
}

/// Runs the measurements.
///
/// # Errors
/// A stage that cannot be stored, or an objective that refuses its input.
pub fn run(stages: &Stages, size: &TheorySize) -> Result<Theory> {
    let responses = stages
        .value("theory: K responses", &json!({"cases": size.num_cases}), |_| responses::measure(size.num_cases))?;
    let population = stages
        .value("theory: population", &json!({"worlds": size.num_worlds}), |_| population::measure(size.num_worlds))?;
    let settings = json!({"prompts": size.num_prompts, "responses": size.num_responses, "seeds": size.seeds});
    let convergence = stages.value("theory: convergence", &settings, |_| convergence::measure(size))?;
    Ok(Theory { responses, population, convergence })
}
