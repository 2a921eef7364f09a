//! DiscoPOP: a blend of the logistic and the exponential loss, found by automated search.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, UpToOne, register_objective};
use serde::{Deserialize, Serialize};

use crate::{
    divergence::Divergence,
    math::{log_sigmoid, sigmoid},
    pair::Pair,
};

/// Blends DPO's logistic loss with an exponential loss, depending on the margin.
///
/// With d = βδ, δ = Δ_w − Δ_l, or another divergence's difference, m = σ(d/τ):
///
/// `L = (1 − m) · (−log σ(d)) + m · e^{−d}`
///
/// Source: Lu et al. 2024, arXiv 2406.08414, eq. 5 (the log-ratio modulated loss).
///
/// TRL's keys: `loss_type: discopop`, `beta`; `discopop_tau` is [`tau`](DiscoPop::tau);
/// `f_divergence_type`, `f_alpha_divergence_coef`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiscoPop {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// τ: width of the blend, in (0, 1]. Above 1 the loss would overflow at large negative margins.
    pub tau: UpToOne,
    /// The divergence from the reference.
    #[serde(flatten)]
    pub divergence: Divergence,
}

impl Default for DiscoPop {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1), tau: UpToOne::constant(0.05), divergence: Divergence::default() }
    }
}

impl Objective for DiscoPop {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let margin = Pair::new(groups, self.divergence.of_log_ratios(groups)).margin() * self.beta.get();
        let scaled = margin.clone() / self.tau.get();
        let logistic = -log_sigmoid(margin.clone()) * sigmoid(-scaled.clone());
        // m·e^{−d} as a single exponential: on its own, e^{−d} overflows where m is 0.
        let exponential = (log_sigmoid(scaled) - margin).exp();
        ObjectiveOutput { loss: logistic + exponential, implicit_rewards: groups.log_ratios() * self.beta.get() }
    }
}

register_objective! {
    DiscoPop,
    name: "discopop",
    summary: "A blend of the logistic and the exponential loss, found by automated search",
    formula: "(1−m)(−log σ(βδ)) + m e^{−βδ}, m = σ(βδ/τ)",
    paper: "arXiv 2406.08414 (DiscoPOP)",
}
