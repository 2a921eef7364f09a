//! EXO for pairs: reverse KL divergence to a smoothed preference.

use collimate_objective::{
    Needs, Objective, ObjectiveOutput, Positive, PositiveSmoothing, ScoredGroups, register_objective,
};
use serde::{Deserialize, Serialize};

use crate::{
    divergence::Divergence,
    math::{log_sigmoid, sigmoid},
    pair::Pair,
};

/// Fits the preference the policy implies to the smoothed label, by reverse KL divergence.
///
/// With d = βδ, δ = Δ_w − Δ_l, or another divergence's difference:
///
/// `L = σ(d) (log σ(d) − log(1−ε)) + σ(−d) (log σ(−d) − log ε)`
///
/// Source: Ji et al. 2024, arXiv 2402.00856, eq. 16.
///
/// TRL's keys: `loss_type: exo_pair`, `beta`, `label_smoothing`, `f_divergence_type`, `f_alpha_divergence_coef`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExoPair {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// ε: probability the smoothed label gives the worst response, in (0, ½).
    pub label_smoothing: PositiveSmoothing,
    /// The divergence from the reference.
    #[serde(flatten)]
    pub divergence: Divergence,
}

impl Default for ExoPair {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
            label_smoothing: PositiveSmoothing::constant(1e-3),
            divergence: Divergence::default(),
        }
    }
}

impl Objective for ExoPair {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let margin = Pair::new(groups, self.divergence.of_log_ratios(groups)).margin() * self.beta.get();
        let smoothing = self.label_smoothing.get();
        let right = sigmoid(margin.clone()) * (log_sigmoid(margin.clone()) - (-smoothing).ln_1p());
        let wrong = sigmoid(-margin.clone()) * (log_sigmoid(-margin) - smoothing.ln());
        ObjectiveOutput { loss: right + wrong, implicit_rewards: groups.log_ratios() * self.beta.get() }
    }
}

register_objective! {
    ExoPair,
    name: "exo_pair",
    summary: "Reverse KL divergence of the implied preference from a smoothed label",
    formula: "KL( σ(±βδ) ‖ (1−ε, ε) )",
    paper: "arXiv 2402.00856 (EXO)",
}
