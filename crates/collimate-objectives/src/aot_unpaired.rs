//! AOT, unpaired: the distribution of the best responses' log-ratios against that of the worst ones'.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{
    math::{log_sigmoid, rank_matched},
    pair::Pair,
};

/// Makes the log-ratios of a step's best responses, sorted, larger than those of its worst ones, sorted.
///
/// `L = −log σ(β(Δ_w − Δ_l'))`, Δ_l' that of the worst response with the same rank among the step's prompts
///
/// The best and the worst response of one prompt need not be compared. The step's prompts are coupled; with one prompt a
/// step it is [`dpo`](crate::Dpo).
///
/// Source: Melnyk et al. 2024, arXiv 2406.05882 (unpaired).
///
/// TRL's keys: `loss_type: aot_unpaired` (`aot` in old versions); `beta` as here.
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
        Needs { couples_batch: true, ..Needs::default() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let log_ratios = groups.log_ratios();
        let Pair { best, worst } = Pair::of(groups, log_ratios.clone());
        let difference = best.clone() - rank_matched(worst, best);
        let beta = self.beta.get();
        ObjectiveOutput { loss: -log_sigmoid(difference * beta), implicit_rewards: log_ratios * beta }
    }
}

register_objective! {
    AotUnpaired,
    name: "aot_unpaired",
    summary: "The step's best responses, sorted, against its worst ones, sorted",
    formula: "−log σ(β(Δ_w − Δ_l')), Δ_l' that of the same rank in the step",
    paper: "arXiv 2406.05882 (AOT, unpaired)",
}
