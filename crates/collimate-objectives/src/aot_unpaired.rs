//! AOT, unpaired: the distribution of the best responses' log-ratios against the worst responses'.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{
    math::{log_sigmoid, rank_matched},
    pair::Pair,
};

/// Raises the sorted log-ratios of a step's best responses above those of its worst responses.
///
/// With Δ_l' the worst responses' log-ratio of the same rank within the step:
///
/// `L = −log σ(β(Δ_w − Δ_l'))`
///
/// A prompt's best and worst response are not necessarily compared with each other. The prompts of a step are coupled;
/// with a single prompt this is [`dpo`](crate::Dpo).
///
/// Source: Melnyk et al. 2024, arXiv 2406.05882 (unpaired).
///
/// TRL's keys: `loss_type: aot_unpaired` (`aot` in old versions), `beta`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AotUnpaired {
    /// β: scale of the implicit reward.
    pub beta: Positive,
}

impl Default for AotUnpaired {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1) }
    }
}

impl Objective for AotUnpaired {
    fn needs(&self) -> Needs {
        Needs { couples_batch: true, ..Needs::default().without_pairs() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let log_ratios = groups.log_ratios();
        let Pair { best, worst } = Pair::new(groups, log_ratios.clone());
        let difference = best.clone() - rank_matched(worst, best);
        let beta = self.beta.get();
        ObjectiveOutput { loss: -log_sigmoid(difference * beta), implicit_rewards: log_ratios * beta }
    }
}

register_objective! {
    AotUnpaired,
    name: "aot_unpaired",
    summary: "The step's best responses against its worst, each sorted by log-ratio",
    formula: "−log σ(β(Δ_w − Δ_l')), Δ_l' the one of the same rank in the step",
    paper: "arXiv 2406.05882 (AOT, unpaired)",
}
