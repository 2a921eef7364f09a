//! DPO: direct preference optimization, best against worst response.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, Smoothing, register_objective};
use serde::{Deserialize, Serialize};

use crate::{divergence::Divergence, math::log_sigmoid, pair::Pair};

/// Makes the best response more likely than the worst, relative to the reference.
///
/// With δ = Δ_w − Δ_l, or another divergence's difference:
///
/// `L = −(1−ε) log σ(βδ) − ε log σ(−βδ)`
///
/// Of more than two responses it uses the best and the worst. Only their difference matters, so the likelihood of both may
/// fall ([`nca`](crate::Nca) and [`nca_pair`](crate::NcaPair) prevent that).
///
/// Source: Rafailov et al. 2023, arXiv 2305.18290, eq. 7; label smoothing is conservative DPO, Mitchell 2023.
///
/// TRL's keys: `loss_type: sigmoid`, `beta`, `label_smoothing`, `f_divergence_type`, `f_alpha_divergence_coef`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dpo {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// ε: assumed rate of flipped preference labels, in [0, ½).
    pub label_smoothing: Smoothing,
    /// The divergence from the reference.
    #[serde(flatten)]
    pub divergence: Divergence,
}

impl Default for Dpo {
    fn default() -> Self {
        Self {
            beta: Positive::constant(0.1),
            label_smoothing: Smoothing::constant(0.0),
            divergence: Divergence::default(),
        }
    }
}

impl Objective for Dpo {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let pair = Pair::new(groups, self.divergence.of_log_ratios(groups));
        let margin = pair.margin() * self.beta.get();
        let smoothing = self.label_smoothing.get();
        let loss = -log_sigmoid(margin.clone()) * (1.0 - smoothing) - log_sigmoid(-margin) * smoothing;
        ObjectiveOutput { loss, implicit_rewards: groups.log_ratios() * self.beta.get() }
    }
}

register_objective! {
    Dpo,
    name: "dpo",
    summary: "Best against worst response, relative to the reference",
    formula: "−(1−ε) log σ(βδ) − ε log σ(−βδ)",
    paper: "arXiv 2305.18290 (DPO)",
}
