//! AOT: the batch's distribution of margins against the reference's.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{
    math::{log_sigmoid, rank_matched},
    pair::Pair,
};

/// Raises the sorted margins of a step's prompts above the reference's sorted margins.
///
/// With m = log π(w) − log π(l) and m' the reference's margin of the same rank within the step:
///
/// `L = −log σ(β(m − m'))`
///
/// The distribution of margins comes to dominate the reference's, rather than each margin its own counterpart. The prompts
/// of a step are coupled; with a single prompt this is [`dpo`](crate::Dpo).
///
/// Source: Melnyk et al. 2024, arXiv 2406.05882 (paired).
///
/// TRL's keys: `loss_type: aot` (`aot_pair` in old versions), `beta`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Aot {
    /// β: scale of the implicit reward.
    pub beta: Positive,
}

impl Default for Aot {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1) }
    }
}

impl Objective for Aot {
    fn needs(&self) -> Needs {
        Needs { couples_batch: true, ..Needs::default().without_pairs() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let log_ratios = groups.log_ratios();
        let Some(reference) = groups.reference_logps() else { unreachable!("needs() asks for a reference") };
        let policy = Pair::new(groups, groups.policy_logps()).margin();
        let reference = Pair::new(groups, reference).margin();
        let difference = policy.clone() - rank_matched(reference, policy);
        let beta = self.beta.get();
        ObjectiveOutput { loss: -log_sigmoid(difference * beta), implicit_rewards: log_ratios * beta }
    }
}

register_objective! {
    Aot,
    name: "aot",
    summary: "The step's sorted margins against the reference's sorted margins",
    formula: "−log σ(β(m − m')), m = log π(w)/π(l), m' the margin of π_ref of the same rank in the step",
    paper: "arXiv 2406.05882 (AOT, paired)",
}
