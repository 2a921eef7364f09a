//! SimPO: mean log-probabilities with a target margin, without a reference.

use collimate_objective::{Needs, NonNegative, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{math::log_sigmoid, pair::Pair};

/// Raises the best response's mean log-probability per token above the worst's by a margin. Needs no reference.
///
/// With p the mean log-probability per token:
///
/// `L = −log σ(β(p_w − p_l) − γ)`
///
/// Source: Meng et al. 2024, arXiv 2405.14734, eq. 6.
///
/// TRL's keys (CPO trainer): `loss_type: simpo`, `beta`; `simpo_gamma` is [`gamma`](SimPo::gamma).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SimPo {
    /// β: scale of the mean log-probabilities.
    pub beta: Positive,
    /// γ: the target margin.
    pub gamma: NonNegative,
}

impl Default for SimPo {
    fn default() -> Self {
        Self { beta: Positive::constant(2.0), gamma: NonNegative::constant(1.0) }
    }
}

impl Objective for SimPo {
    fn needs(&self) -> Needs {
        Needs::without_reference().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.token_logps() * self.beta.get();
        let margin = Pair::new(groups, implicit_rewards.clone()).margin();
        let loss = -log_sigmoid(margin - self.gamma.get());
        ObjectiveOutput { loss, implicit_rewards }
    }
}

register_objective! {
    SimPo,
    name: "simpo",
    summary: "Best against worst by mean log-probability per token with a margin, without a reference",
    formula: "−log σ(β(p_w − p_l) − γ)",
    paper: "arXiv 2405.14734 (SimPO)",
}
