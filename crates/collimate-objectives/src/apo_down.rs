//! APO-down: anchored preference optimization for data worse than the policy.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{math::sigmoid, pair::Pair};

/// Lowers both responses, the worst one more. For data whose best responses are worse than the policy's own.
///
/// With h = βΔ:
///
/// `L = σ(h_w) + 1 − σ(h_w − h_l)`
///
/// Source: D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 8.
///
/// TRL's keys: `loss_type: apo_down`, `beta`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApoDown {
    /// β: scale of the implicit reward.
    pub beta: Positive,
}

impl Default for ApoDown {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1) }
    }
}

impl Objective for ApoDown {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let pair = Pair::new(groups, implicit_rewards.clone());
        let loss = sigmoid(pair.best.clone()) + sigmoid(-pair.margin());
        ObjectiveOutput { loss, implicit_rewards }
    }
}

register_objective! {
    ApoDown,
    name: "apo_down",
    summary: "Lower both, the worst more (for data worse than the policy)",
    formula: "σ(h_w) + 1 − σ(h_w − h_l)",
    paper: "arXiv 2408.06266 (APO-down)",
}
