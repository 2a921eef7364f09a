//! Objectives compared on the quickstart's task.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ablation::{dpo, infonca, method, nca};
use crate::stage::Stages;
use crate::task::{MethodResult, NUM_SAMPLED, Outcome, Selection, Task, TaskSize};

/// The findings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reasoning {
    /// The base model.
    pub base: Outcome,
    /// Results by objective.
    pub methods: Vec<MethodResult>,
}

/// Runs the experiment, reusing runs of the ablation.
///
/// # Errors
/// A run that failed.
pub fn run(stages: &Stages, size: &TaskSize) -> Result<Reasoning> {
    let task = Task::new(stages, size)?;
    let whole = Selection::First(NUM_SAMPLED);
    let methods = [
        method("SFT on the best", json!({"name": "sft"}), whole),
        method("DPO, best and worst", dpo(), Selection::BestWorst),
        method("KTO, best and worst", json!({"name": "kto", "beta": 0.3}), Selection::BestWorst),
        method("InfoNCA, K = 8", infonca(), whole),
        method("NCA, K = 8", nca(), whole),
    ];
    let methods = methods.iter().map(|method| task.run(method)).collect::<Result<_>>()?;
    Ok(Reasoning { base: task.base_outcome()?, methods })
}
