//! Plackett–Luce: the whole ranking of K responses.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::by_hand::{self, Differentiated, log_add};

/// Maximizes the likelihood of the ranking by reward.
///
/// With h = βΔ and τ the responses from best to worst (among ties the earlier is the better):
///
/// `L = −Σ_k log( e^{h_τ(k)} / Σ_{j≥k} e^{h_τ(j)} )`
///
/// Only the order of the rewards matters, not their size. At h = 0 the loss is ln K!; for two responses it is
/// [`dpo`](crate::Dpo). Shifting all h by a constant changes nothing, so the absolute level is free.
///
/// Source: Rafailov et al. 2023, arXiv 2305.18290, appendix A.3 (DPO under the Plackett–Luce model).
///
/// TRL's keys: none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlackettLuce {
    /// β: scale of the implicit reward.
    pub beta: Positive,
}

impl Default for PlackettLuce {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1) }
    }
}

impl Objective for PlackettLuce {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let rewards = by_hand::numbers(groups, groups.rewards());
        let loss = by_hand::losses(groups, &implicit_rewards, |b, heights| ranking_loss(heights, &rewards[b]));
        ObjectiveOutput { loss, implicit_rewards }
    }
}

/// The loss of one ranking, with two passes over it: each position's normalizer is a sum over itself and all that follow.
fn ranking_loss(heights: &[f64], rewards: &[f64]) -> Differentiated {
    let mut ranking: Vec<usize> = (0..rewards.len()).collect();
    ranking.sort_by(|&a, &b| rewards[b].total_cmp(&rewards[a]));
    let mut sum = Differentiated::zero(heights.len());
    let mut normalizers = vec![0.0; heights.len()];
    let mut unranked = f64::NEG_INFINITY;
    for (normalizer, &response) in normalizers.iter_mut().zip(&ranking).rev() {
        unranked = log_add(unranked, heights[response]);
        *normalizer = unranked;
        sum.loss += unranked - heights[response];
    }
    // A response is in the normalizer of its own position and of those before: log of the sum of their reciprocals.
    let mut reciprocals = f64::NEG_INFINITY;
    for (normalizer, &response) in normalizers.iter().zip(&ranking) {
        reciprocals = log_add(reciprocals, -normalizer);
        sum.gradient[response] = (heights[response] + reciprocals).exp() - 1.0;
    }
    sum
}

register_objective! {
    PlackettLuce,
    name: "plackett_luce",
    summary: "Likelihood of the ranking, relative to the reference (K responses)",
    formula: "−Σ_k log( e^{h_τ(k)} / Σ_{j≥k} e^{h_τ(j)} ), τ = best first",
    paper: "arXiv 2305.18290 (DPO, appendix A.3)",
}
