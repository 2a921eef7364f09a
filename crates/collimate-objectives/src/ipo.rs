//! IPO: identity preference optimization.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{divergence::Divergence, pair::Pair};

/// Pulls the margin between per-token log-ratios to a fixed target instead of increasing it without bound.
///
/// With n the number of tokens of a response; another divergence replaces Δ:
///
/// `L = (Δ_w/n_w − Δ_l/n_l − 1/(2β))²`
///
/// Source: Azar et al. 2023, arXiv 2310.12036, eq. 17; log-ratios averaged over tokens as in TRL.
///
/// TRL's keys: `loss_type: ipo`, `beta`, `f_divergence_type`, `f_alpha_divergence_coef`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ipo {
    /// β: the paper's τ; the target margin is 1/(2β) nats per token.
    pub beta: Positive,
    /// The divergence from the reference.
    #[serde(flatten)]
    pub divergence: Divergence,
}

impl Default for Ipo {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1), divergence: Divergence::default() }
    }
}

impl Objective for Ipo {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let margin = Pair::new(groups, self.divergence.of_log_ratios(groups) / groups.lengths()).margin();
        let loss = (margin - 0.5 / self.beta.get()).square();
        ObjectiveOutput { loss, implicit_rewards: groups.log_ratios() * self.beta.get() }
    }
}

register_objective! {
    Ipo,
    name: "ipo",
    summary: "Best against worst with a fixed target margin, averaged over tokens",
    formula: "(Δ_w/n_w − Δ_l/n_l − 1/(2β))²",
    paper: "arXiv 2310.12036 (IPO)",
}
