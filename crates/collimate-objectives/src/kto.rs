//! KTO: desirable and undesirable responses, each against a reference point estimated from the batch.

use collimate_objective::{Needs, NonNegative, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{math::sigmoid, pair::Pair};

/// Raises the best response above a reference point and lowers the worst below it, with a saturating value function.
///
/// A prompt's best response counts as desirable, its worst as undesirable:
///
/// `L = λ_D(1 − σ(β(Δ_w − z))) + λ_U(1 − σ(β(z − Δ_l)))`, `z = max(0, mean Δ)`
///
/// The mean is over all responses of the optimizer step, so its prompts are coupled; no gradient flows through z. The
/// paper and TRL estimate z from mismatched pairs (a prompt with another prompt's response), which are not scored here.
/// For responses sampled from the reference both estimates are at most 0 in expectation, so z is 0.
///
/// Source: Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8.
///
/// TRL's keys (KTO trainer): `beta`, `desirable_weight`, `undesirable_weight`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kto {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// λ_D: weight of the desirable response.
    pub desirable_weight: NonNegative,
    /// λ_U: weight of the undesirable response.
    pub undesirable_weight: NonNegative,
}

impl Default for Kto {
    fn default() -> Self {
        let one = NonNegative::constant(1.0);
        Self { beta: Positive::constant(0.1), desirable_weight: one, undesirable_weight: one }
    }
}

impl Objective for Kto {
    fn needs(&self) -> Needs {
        Needs { couples_batch: true, holds_constant: true, ..Needs::default().without_pairs() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let log_ratios = groups.log_ratios();
        let responses = groups.num_present().sum();
        let total = groups.sum(log_ratios.clone()).sum();
        let point = (total / responses).clamp_min(0.0).detach();
        let Pair { best, worst } = Pair::new(groups, log_ratios.clone());
        let beta = self.beta.get();
        // σ(−x) rather than 1 − σ(x), which cancels at large x.
        let desirable = sigmoid((point.clone() - best) * beta);
        let undesirable = sigmoid((worst - point) * beta);
        let loss = desirable * self.desirable_weight.get() + undesirable * self.undesirable_weight.get();
        ObjectiveOutput { loss, implicit_rewards: log_ratios * beta }
    }
}

register_objective! {
    Kto,
    name: "kto",
    summary: "Best above and worst below a reference point estimated from the step",
    formula: "λ_D(1 − σ(β(Δ_w − z))) + λ_U(1 − σ(β(z − Δ_l))), z = max(0, mean Δ of the step)",
    paper: "arXiv 2402.01306 (KTO)",
}
