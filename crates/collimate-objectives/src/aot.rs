//! AOT: the distribution of margins over a batch against the reference's.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{
    math::{log_sigmoid, rank_matched},
    pair::Pair,
};

/// Makes the policy's margins of a whole step, sorted, larger than the reference's, sorted.
///
/// With m = log π(w) − log π(l) under the policy and m' the same under the reference:
///
/// `L = −log σ(β(m − m'))`, m' that of the prompt with the same rank among the step's prompts
///
/// So the distribution of margins dominates the reference's, rather than each margin its own. The step's prompts are
/// coupled; with one prompt a step it is [`dpo`](crate::Dpo).
///
/// Source: Melnyk et al. 2024, arXiv 2406.05882 (paired).
///
/// TRL's keys: `loss_type: aot` (`aot_pair` in old versions); `beta` as here.
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
        Needs { couples_batch: true, ..Needs::default() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let log_ratios = groups.log_ratios();
        let Some(reference) = groups.reference_logps() else { unreachable!("needs() asks for a reference") };
        let policy = Pair::of(groups, groups.policy_logps()).margin();
        let reference = Pair::of(groups, reference).margin();
        let difference = policy.clone() - rank_matched(reference, policy);
        let beta = self.beta.get();
        ObjectiveOutput { loss: -log_sigmoid(difference * beta), implicit_rewards: log_ratios * beta }
    }
}

register_objective! {
    Aot,
    name: "aot",
    summary: "The step's margins, sorted, against the reference's, sorted",
    formula: "−log σ(β(m − m')), m = log π(w)/π(l), m' that of π_ref with the same rank in the step",
    paper: "arXiv 2406.05882 (AOT, paired)",
}
