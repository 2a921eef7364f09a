//! NCA for pairs: best against worst response, on an absolute scale.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{math::log_sigmoid, pair::Pair};

/// Raises the best response and lowers the worst, each relative to the reference.
///
/// With h = βΔ:
///
/// `L = −log σ(h_w) − ½ log σ(−h_w) − ½ log σ(−h_l)`
///
/// This is [`nca`](crate::Nca) with K = 2 and all weight on the better response. Of more responses it uses the best and
/// the worst.
///
/// Source: Chen et al. 2024, arXiv 2402.05369, NCA for preference data.
///
/// TRL's keys: `loss_type: nca_pair`, `beta`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NcaPair {
    /// β: scale of the implicit reward.
    pub beta: Positive,
}

impl Default for NcaPair {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1) }
    }
}

impl Objective for NcaPair {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let Pair { best, worst } = Pair::new(groups, implicit_rewards.clone());
        let loss = -log_sigmoid(best.clone()) - log_sigmoid(-best) * 0.5 - log_sigmoid(-worst) * 0.5;
        ObjectiveOutput { loss, implicit_rewards }
    }
}

register_objective! {
    NcaPair,
    name: "nca_pair",
    summary: "NCA on the best and the worst response, all weight on the best",
    formula: "−log σ(h_w) − ½ log σ(−h_w) − ½ log σ(−h_l)",
    paper: "arXiv 2402.05369 (NCA for preferences)",
}
