//! Robust DPO: an unbiased loss under a known rate of flipped labels.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, Smoothing, register_objective};
use serde::{Deserialize, Serialize};

use crate::{divergence::Divergence, math::log_sigmoid, pair::Pair};

/// DPO, corrected for a known rate of flipped labels.
///
/// With δ = Δ_w − Δ_l, or another divergence's difference:
///
/// `L = [−(1−ε) log σ(βδ) + ε log σ(−βδ)] / (1 − 2ε)`
///
/// The loss can be negative.
///
/// Source: Chowdhury et al. 2024, arXiv 2403.00409.
///
/// TRL's keys: `loss_type: robust`, `beta`, `label_smoothing`, `f_divergence_type`, `f_alpha_divergence_coef`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Robust {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// ε: assumed rate of flipped preference labels, in [0, ½).
    pub label_smoothing: Smoothing,
    /// The divergence from the reference.
    #[serde(flatten)]
    pub divergence: Divergence,
}

impl Default for Robust {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
            label_smoothing: Smoothing::constant(0.1),
            divergence: Divergence::default(),
        }
    }
}

impl Objective for Robust {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let margin = Pair::new(groups, self.divergence.of_log_ratios(groups)).margin() * self.beta.get();
        let smoothing = self.label_smoothing.get();
        let kept = -log_sigmoid(margin.clone()) * (1.0 - smoothing);
        let swapped = log_sigmoid(-margin) * smoothing;
        let loss = (kept + swapped) / (1.0 - 2.0 * smoothing);
        ObjectiveOutput { loss, implicit_rewards: groups.log_ratios() * self.beta.get() }
    }
}

register_objective! {
    Robust,
    name: "robust",
    summary: "DPO corrected for a known rate of flipped labels",
    formula: "[−(1−ε) log σ(βδ) + ε log σ(−βδ)] / (1−2ε)",
    paper: "arXiv 2403.00409 (robust DPO)",
}
