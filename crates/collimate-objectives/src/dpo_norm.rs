//! DPO over log-ratios a token.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{divergence::Divergence, math::log_sigmoid, pair::Pair};

/// DPO with each log-ratio divided by its response's length, so that long responses do not count more.
///
/// With n the number of tokens of a response; another divergence replaces Δ:
///
/// `L = −log σ(β (Δ_w/n_w − Δ_l/n_l))`
///
/// Source: Lambert et al. 2024, arXiv 2411.15124 (Tülu 3), §5.1.2.
///
/// TRL's keys: `loss_type: sigmoid_norm`, `beta`, `f_divergence_type`, `f_alpha_divergence_coef`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DpoNorm {
    /// β: scale of the implicit reward a token.
    pub beta: Positive,
    /// The divergence from the reference.
    #[serde(flatten)]
    pub divergence: Divergence,
}

impl Default for DpoNorm {
    fn default() -> Self {
        Self { beta: Positive::constant(5.0), divergence: Divergence::default() }
    }
}

impl Objective for DpoNorm {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let margin = Pair::new(groups, self.divergence.of_log_ratios(groups) / groups.lengths()).margin();
        let implicit_rewards = groups.log_ratios() / groups.lengths() * self.beta.get();
        ObjectiveOutput { loss: -log_sigmoid(margin * self.beta.get()), implicit_rewards }
    }
}

register_objective! {
    DpoNorm,
    name: "dpo_norm",
    summary: "DPO over log-ratios a token",
    formula: "−log σ(β (Δ_w/n_w − Δ_l/n_l))",
    paper: "arXiv 2411.15124 (Tülu 3)",
}
