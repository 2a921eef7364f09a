//! BCO for pairs: binary classification of good and bad responses, without a reward shift.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{math::log_sigmoid, pair::Pair};

/// Classifies the best response as good and the worst as bad, independently of each other.
///
/// With h = βΔ:
///
/// `L = −log σ(h_w) − log σ(−h_l)`
///
/// Source: Jung et al. 2024, arXiv 2404.04656, without the reward shift; `biasedNCA` of the published NCA code.
///
/// TRL's keys: `loss_type: bco_pair`, `beta`. TRL also subtracts a running mean of the implicit rewards.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BcoPair {
    /// β: scale of the implicit reward.
    pub beta: Positive,
}

impl Default for BcoPair {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1) }
    }
}

impl Objective for BcoPair {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let Pair { best, worst } = Pair::new(groups, implicit_rewards.clone());
        let loss = -log_sigmoid(best) - log_sigmoid(-worst);
        ObjectiveOutput { loss, implicit_rewards }
    }
}

register_objective! {
    BcoPair,
    name: "bco_pair",
    summary: "Classify the best as good and the worst as bad, independently",
    formula: "−log σ(h_w) − log σ(−h_l)",
    paper: "arXiv 2404.04656 (BCO)",
}
