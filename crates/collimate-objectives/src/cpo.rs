//! CPO: DPO without a reference, plus the likelihood of the best response.

use collimate_objective::{Needs, NonNegative, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{math::log_sigmoid, pair::Pair};

/// Prefers the best response to the worst and keeps it likely. Needs no reference.
///
/// With lp the log-probability of a response and p its mean per token:
///
/// `L = −log σ(β(lp_w − lp_l)) − sft_weight · p_w`
///
/// Source: Xu et al. 2024, arXiv 2401.08417.
///
/// TRL's keys (CPO trainer): `loss_type: sigmoid`, `beta`; `cpo_alpha` is [`sft_weight`](Cpo::sft_weight).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cpo {
    /// β: scale of the log-probabilities.
    pub beta: Positive,
    /// Weight of the best response's mean negative log-likelihood.
    pub sft_weight: NonNegative,
}

impl Default for Cpo {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1), sft_weight: NonNegative::constant(1.0) }
    }
}

impl Objective for Cpo {
    fn needs(&self) -> Needs {
        Needs::without_reference().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.policy_logps() * self.beta.get();
        let margin = Pair::new(groups, implicit_rewards.clone()).margin();
        let likelihood = groups.best(groups.token_logps());
        let loss = -log_sigmoid(margin) - likelihood * self.sft_weight.get();
        ObjectiveOutput { loss, implicit_rewards }
    }
}

register_objective! {
    Cpo,
    name: "cpo",
    summary: "Best against worst without a reference, plus the likelihood of the best",
    formula: "−log σ(β(lp_w − lp_l)) − sft_weight · p_w",
    paper: "arXiv 2401.08417 (CPO)",
}
