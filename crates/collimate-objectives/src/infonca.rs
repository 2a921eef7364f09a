//! InfoNCA: InfoNCE-style alignment of K responses with scalar rewards.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

/// Matches the softmax of the implicit rewards to the softmax of the rewards.
///
/// With h = βΔ and w = softmax(r/α) over the prompt's K responses:
///
/// `L = −Σ_k w_k · log softmax(h)_k`
///
/// The gradient in h_k is `softmax(h)_k − w_k`. It sums to zero, so only differences are learned and the likelihood of the
/// best response may fall. With K = 2 and all weight on the better response this is [`dpo`](crate::Dpo).
///
/// Source: Chen et al. 2024, arXiv 2402.05369, the InfoNCA loss for reward data.
///
/// The published recipe's `temperature_alpha` is [`alpha`](InfoNca::alpha). TRL has no counterpart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InfoNca {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// α: reward temperature, in units of the reward.
    ///
    /// The default 0.33 suits rewards in [0, 1]; set it for others.
    pub alpha: Positive,
}

impl Default for InfoNca {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1), alpha: Positive::constant(0.33) }
    }
}

impl Objective for InfoNca {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let weights = groups.reward_weights(self.alpha.get());
        let loss = -groups.sum(weights * groups.log_softmax(implicit_rewards.clone()));
        ObjectiveOutput { loss, implicit_rewards }
    }
}

register_objective! {
    InfoNca,
    name: "infonca",
    summary: "Match differences of implicit rewards to those of rewards (K responses; DPO is its K = 2 case)",
    formula: "−Σ_k w_k log softmax(h)_k, w = softmax(r/α)",
    paper: "arXiv 2402.05369 (InfoNCA)",
}
