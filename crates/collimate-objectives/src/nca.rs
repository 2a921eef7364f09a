//! NCA: noise contrastive alignment of K responses with scalar rewards.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::math::log_sigmoid;

/// Raises the likelihood of each response according to its reward, on an absolute scale.
///
/// With h = βΔ and w = softmax(r/α) over the prompt's K responses:
///
/// `L = −Σ_k w_k · log σ(h_k) − (1/K) Σ_k log σ(−h_k)`
///
/// The gradient in h_k is `−w_k σ(−h_k) + σ(h_k)/K` and the optimum is `h_k = log(K·w_k)`, so exactly the responses with
/// w_k > 1/K become more likely. At h = 0 the loss is 2 ln 2 for every K.
///
/// Source: Chen et al. 2024, arXiv 2402.05369, the NCA loss for reward data.
///
/// TRL's keys: `beta`; for pairs TRL has the special case [`nca_pair`](crate::NcaPair). The published recipe's
/// `temperature_alpha` is [`alpha`](Nca::alpha).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Nca {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// α: reward temperature, in units of the reward. Small values put all weight on the best response.
    ///
    /// The default 0.33 suits rewards in [0, 1]; set it for others.
    pub alpha: Positive,
}

impl Default for Nca {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1), alpha: Positive::constant(0.33) }
    }
}

impl Objective for Nca {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let weights = groups.reward_weights(self.alpha.get());
        let pull = groups.sum(weights * log_sigmoid(implicit_rewards.clone()));
        let push = groups.mean(log_sigmoid(-implicit_rewards.clone()));
        ObjectiveOutput { loss: -pull - push, implicit_rewards }
    }
}

register_objective! {
    Nca,
    name: "nca",
    summary: "Raise each response according to its reward, on an absolute scale (K responses)",
    formula: "−Σ_k w_k log σ(h_k) − (1/K) Σ_k log σ(−h_k), w = softmax(r/α)",
    paper: "arXiv 2402.05369 (NCA)",
}
