//! RPO: reward-aware preference optimization.

use collimate_objective::{Needs, NonNegative, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::by_hand::{self, Differentiated, sigmoid, softplus};

/// DPO whose target is how much better a response is, over all pairs of responses: a small gap in reward asks for a small margin.
///
/// With h = βΔ, s = σ(h_i − h_j) and the target t = σ(η (r_i − r_j)):
///
/// `L = 2/(K(K−1)) Σ_{i<j} t log(t/s) + (1−t) log((1−t)/(1−s))`
///
/// Source: Adler et al. 2024, arXiv 2406.11704 (Nemotron-4), §3.3.2; all pairs in place of one. It has nothing to do with TRL's
/// `rpo_alpha`.
///
/// TRL's keys: none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rpo {
    /// β: scale of the implicit reward.
    pub beta: Positive,
    /// η: scale of the data's rewards.
    pub eta: NonNegative,
}

impl Default for Rpo {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1), eta: NonNegative::constant(1.0) }
    }
}

impl Objective for Rpo {
    fn needs(&self) -> Needs {
        Needs { max_responses: Some(by_hand::MOST_COMPARED), ..Needs::default().without_pairs() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let rewards = by_hand::numbers(groups, groups.rewards());
        let eta = self.eta.get();
        let loss = by_hand::losses(groups, &implicit_rewards, |b, heights| divergence(heights, &rewards[b], eta));
        ObjectiveOutput { loss, implicit_rewards }
    }
}

/// The mean over pairs of the divergence of s from t; no tensor holds the pairs.
fn divergence(heights: &[f64], rewards: &[f64], eta: f64) -> Differentiated {
    let count = heights.len();
    let share = 2.0 / (count * (count - 1)) as f64;
    let mut sum = Differentiated::zero(count);
    for i in 0..count {
        for j in i + 1..count {
            let (gap, margin) = (eta * (rewards[i] - rewards[j]), heights[i] - heights[j]);
            let target = sigmoid(gap);
            // log(t/s) = softplus(−margin) − softplus(−gap), and so for 1−t.
            let better = softplus(-margin) - softplus(-gap);
            let worse = softplus(margin) - softplus(gap);
            sum.loss += share * (target * better + (1.0 - target) * worse);
            let slope = share * (sigmoid(margin) - target);
            sum.gradient[i] += slope;
            sum.gradient[j] -= slope;
        }
    }
    sum
}

register_objective! {
    Rpo,
    name: "rpo",
    summary: "DPO whose target is the gap in reward, over all pairs (K responses)",
    formula: "2/(K(K−1)) Σ_{i<j} KL( σ(η(r_i − r_j)) ‖ σ(h_i − h_j) )",
    paper: "arXiv 2406.11704 (Nemotron-4)",
}
