//! K responses with rewards against pairs of them, at equal numbers of prompts and optimizer steps.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::stage::Stages;
use crate::task::{Method, MethodResult, NUM_SAMPLED, Outcome, Selection, Task, TaskSize};

/// The findings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ablation {
    /// The base model.
    pub base: Outcome,
    /// K responses with their rewards, by objective and K.
    pub rewards: Vec<MethodResult>,
    /// All responses with all weight on the best, so that the size of rewards does not matter.
    pub one_hot: Vec<MethodResult>,
    /// Pairs from the same eight responses.
    pub pairs: Vec<MethodResult>,
}

/// NCA with the quickstart's parameters.
pub fn nca() -> Value {
    json!({"name": "nca", "beta": 1.0, "alpha": 0.15})
}

/// InfoNCA with the quickstart's parameters.
pub fn infonca() -> Value {
    json!({"name": "infonca", "beta": 1.0, "alpha": 0.33})
}

/// DPO with the quickstart's parameters.
pub fn dpo() -> Value {
    json!({"name": "dpo", "beta": 0.3})
}

/// A method.
pub fn method(name: &str, objective: Value, selection: Selection) -> Method {
    Method { name: name.to_owned(), objective, selection }
}

/// Runs the experiment.
///
/// # Errors
/// A run that failed.
pub fn run(stages: &Stages, size: &TaskSize) -> Result<Ablation> {
    let task = Task::new(stages, size)?;
    let all = |methods: Vec<Method>| methods.iter().map(|method| task.run(method)).collect::<Result<Vec<_>>>();
    Ok(Ablation {
        base: task.base_outcome()?,
        rewards: all(with_rewards(&size.num_responses))?,
        one_hot: all(with_one_hot())?,
        pairs: all(with_pairs())?,
    })
}

fn with_rewards(num_responses: &[usize]) -> Vec<Method> {
    let of = |name: &str, objective: Value| {
        let name = name.to_owned();
        let made = num_responses
            .iter()
            .map(move |&k| method(&format!("{name}, K = {k}"), objective.clone(), Selection::First(k)));
        made.collect::<Vec<_>>()
    };
    [of("NCA", nca()), of("InfoNCA", infonca())].concat()
}

fn with_one_hot() -> Vec<Method> {
    let cold = |mut objective: Value| {
        objective["alpha"] = json!(1e-4);
        objective
    };
    vec![
        method("NCA, K = 8, α = 1e-4", cold(nca()), Selection::First(NUM_SAMPLED)),
        method("InfoNCA, K = 8, α = 1e-4", cold(infonca()), Selection::First(NUM_SAMPLED)),
    ]
}

fn with_pairs() -> Vec<Method> {
    vec![
        method("DPO, best and worst", dpo(), Selection::BestWorst),
        method("DPO, best and random", dpo(), Selection::BestRandom),
        method("DPO, all pairs", json!({"name": "all_pairs", "beta": 0.3}), Selection::Untied),
        method("DPO, best and worst, β = 1", json!({"name": "dpo", "beta": 1.0}), Selection::BestWorst),
        method("NCA, best and worst", json!({"name": "nca_pair", "beta": 1.0}), Selection::BestWorst),
    ]
}
