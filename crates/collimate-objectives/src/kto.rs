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
/// The mean is over the optimizer step, so its prompts are coupled; no gradient flows through z. With
/// `step`, the default, it is over the step's own responses. `mismatched` is the published
/// one: over pairs of a prompt with the response to the row before it, the first one's being the last's, within a micro-batch
/// of at least 2. Each response is then scored under two prompts. For responses sampled from the reference both are at most 0
/// in expectation, so z is 0.
///
/// TRL takes the mean over a micro-batch of all devices, here it is over the step; they are the same without gradient
/// accumulation.
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
    /// What z is estimated from.
    pub reference_point: ReferencePoint,
}

/// What KTO's reference point z is the mean of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReferencePoint {
    /// The step's own responses under their own prompts.
    Step,
    /// Each response under the next row's prompt, as published.
    Mismatched,
}

impl Default for Kto {
    fn default() -> Self {
        let one = NonNegative::constant(1.0);
        Self {
            beta: Positive::constant(0.1),
            desirable_weight: one,
            undesirable_weight: one,
            reference_point: ReferencePoint::Step,
        }
    }
}

impl Objective for Kto {
    fn needs(&self) -> Needs {
        let is_mismatched = self.reference_point == ReferencePoint::Mismatched;
        let needs = Needs { couples_batch: true, holds_constant: true, ..Needs::default().without_pairs() };
        // Columns are counted, of which a response then has two.
        let min_responses = needs.min_responses * if is_mismatched { 2 } else { 1 };
        Needs { min_responses, mismatched_pairs: is_mismatched, mismatched_apart: is_mismatched, ..needs }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let log_ratios = groups.log_ratios();
        let point = match self.reference_point {
            ReferencePoint::Step => groups.sum(log_ratios.clone()).sum() / groups.num_present().sum(),
            ReferencePoint::Mismatched => {
                let others = groups.mismatched_log_ratios();
                let mean = others.iter().sum::<f64>() / others.len().max(1) as f64;
                groups.num_present().sum().zeros_like() + mean
            }
        };
        let point = point.clamp_min(0.0).detach();
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
    formula: "λ_D(1 − σ(β(Δ_w − z))) + λ_U(1 − σ(β(z − Δ_l))), z = max(0, mean Δ of the step or of mismatched pairs)",
    paper: "arXiv 2402.01306 (KTO)",
}
