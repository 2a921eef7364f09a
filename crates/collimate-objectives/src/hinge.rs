//! Hinge loss on the DPO margin, as in SLiC.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{divergence::Divergence, math::relu, pair::Pair};

/// Pushes the best response above the worst until the margin is 1, then stops.
///
/// With δ = Δ_w − Δ_l, or another divergence's difference:
///
/// `L = max(0, 1 − βδ)`
///
/// Source: Zhao et al. 2023, arXiv 2305.10425 (SLiC-HF); with log-ratios to a reference as in RSO, arXiv
/// 2309.06657.
///
/// TRL's keys: `loss_type: hinge`, `beta`, `f_divergence_type`, `f_alpha_divergence_coef`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hinge {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// The divergence from the reference.
    #[serde(flatten)]
    pub divergence: Divergence,
}

impl Default for Hinge {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1), divergence: Divergence::default() }
    }
}

impl Objective for Hinge {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let margin = Pair::new(groups, self.divergence.of_log_ratios(groups)).margin() * self.beta.get();
        let loss = relu(-margin + 1.0);
        ObjectiveOutput { loss, implicit_rewards: groups.log_ratios() * self.beta.get() }
    }
}

register_objective! {
    Hinge,
    name: "hinge",
    summary: "Best against worst until the margin is 1 (as in SLiC)",
    formula: "max(0, 1 − βδ)",
    paper: "arXiv 2305.10425 (SLiC-HF), 2309.06657 (RSO)",
}
