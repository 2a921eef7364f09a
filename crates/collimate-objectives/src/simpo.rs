//! SimPO: mean log-probabilities with a margin, without a reference.

use collimate_objective::{Needs, NonNegative, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{math::log_sigmoid, pair::Pair};

/// Makes the best response's mean token log-probability exceed the worst's by a margin; needs no reference.
///
/// With p the mean log-probability of a token:
///
/// `L = −log σ(β(p_w − p_l) − γ)`
///
/// Source: Meng et al. 2024, arXiv 2405.14734, eq. 6.
///
/// TRL's keys (CPO trainer): `loss_type: simpo`; `beta` as here, `simpo_gamma` is [`gamma`](SimPo::gamma).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SimPo {
    /// β: scale of the mean log-probabilities.
    pub beta: Positive,
    /// γ: the margin aimed at.
    pub gamma: NonNegative,
}

impl Default for SimPo {
    fn default() -> Self {
        Self { beta: Positive::constant(2.0), gamma: NonNegative::constant(1.0) }
    }
}

impl Objective for SimPo {
    fn needs(&self) -> Needs {
        Needs::without_reference()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.token_logps() * self.beta.get();
        let margin = Pair::of(groups, implicit_rewards.clone()).margin();
        let loss = -log_sigmoid(margin - self.gamma.get());
        ObjectiveOutput { loss, implicit_rewards }
    }
}

register_objective! {
    SimPo,
    name: "simpo",
    summary: "Best against worst by mean token log-probability with a margin, no reference",
    formula: "−log σ(β(p_w − p_l) − γ)",
    paper: "arXiv 2405.14734 (SimPO)",
}
