//! APO-zero: anchored preference optimization for data better than the policy.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{math::sigmoid, pair::Pair};

/// Raises the best response and lowers the worst. For data whose best responses are better than the policy's own.
///
/// With h = βΔ:
///
/// `L = 1 − σ(h_w) + σ(h_l)`
///
/// Source: D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 7.
///
/// TRL's keys: `loss_type: apo_zero`, `beta`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApoZero {
    /// β: scale of the implicit reward.
    pub beta: Positive,
}

impl Default for ApoZero {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1) }
    }
}

impl Objective for ApoZero {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let Pair { best, worst } = Pair::new(groups, implicit_rewards.clone());
        // σ(−x) rather than 1 − σ(x), which cancels at large x.
        let loss = sigmoid(-best) + sigmoid(worst);
        ObjectiveOutput { loss, implicit_rewards }
    }
}

register_objective! {
    ApoZero,
    name: "apo_zero",
    summary: "Raise the best, lower the worst (for data better than the policy)",
    formula: "1 − σ(h_w) + σ(h_l)",
    paper: "arXiv 2408.06266 (APO-zero)",
}
