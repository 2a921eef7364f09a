//! LiPO-λ: all pairs of responses, weighted by the ranking gain at stake.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::by_hand::{self, Differentiated, sigmoid, softplus};

/// Orders all responses by reward, weighting each pair by how much swapping it would change the ranking's NDCG.
///
/// With h = βΔ, gains G = 2^r − 1 and discounts D = ln(1 + rank), where ranks are by h (1 is the highest; ties go to the
/// higher reward, then the earlier response):
///
/// `L = Σ_{r_i > r_j} Λ_ij log(1 + e^{−(h_i − h_j)})`, `Λ_ij = |G_i − G_j| · |1/D_i − 1/D_j|`
///
/// No gradient flows through the ranks. Gains grow as 2^r, so rewards in the hundreds overflow.
///
/// Source: Liu et al. 2024, arXiv 2402.01878, eq. 9 and 10.
///
/// TRL's keys: none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LipoLambda {
    /// β: scale of the implicit reward.
    pub beta: Positive,
}

impl Default for LipoLambda {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1) }
    }
}

impl Objective for LipoLambda {
    fn needs(&self) -> Needs {
        Needs { max_responses: Some(by_hand::MOST_COMPARED), ..Needs::default().without_pairs() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let rewards = by_hand::numbers(groups, groups.rewards());
        let loss = by_hand::losses(groups, &implicit_rewards, |b, heights| ranking_loss(heights, &rewards[b]));
        ObjectiveOutput { loss, implicit_rewards }
    }
}

/// Σ Λ_ij log(1 + e^{−(h_i − h_j)}) over the pairs with r_i > r_j; no tensor holds the pairs.
fn ranking_loss(heights: &[f64], rewards: &[f64]) -> Differentiated {
    let discounts = inverse_discounts(heights, rewards);
    let gains: Vec<f64> = rewards.iter().map(|reward| reward.exp2()).collect();
    let mut sum = Differentiated::zero(heights.len());
    for i in 0..heights.len() {
        for j in (0..heights.len()).filter(|&j| rewards[i] > rewards[j]) {
            let weight = (gains[i] - gains[j]) * (discounts[i] - discounts[j]).abs();
            let below = heights[j] - heights[i];
            sum.loss += weight * softplus(below);
            let slope = weight * sigmoid(below);
            sum.gradient[i] -= slope;
            sum.gradient[j] += slope;
        }
    }
    sum
}

/// 1/D for each response.
fn inverse_discounts(heights: &[f64], rewards: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..heights.len()).collect();
    order.sort_by(|&a, &b| heights[b].total_cmp(&heights[a]).then(rewards[b].total_cmp(&rewards[a])));
    let mut inverse = vec![0.0; heights.len()];
    for (position, index) in order.into_iter().enumerate() {
        inverse[index] = 1.0 / ((position + 2) as f64).ln();
    }
    inverse
}

register_objective! {
    LipoLambda,
    name: "lipo_lambda",
    summary: "All pairs, weighted by the ranking gain at stake (K responses)",
    formula: "Σ_{r_i>r_j} Λ_ij log(1 + e^{−(h_i − h_j)}), Λ_ij = |G_i − G_j| · |1/D_i − 1/D_j|, G = 2^r − 1, D = ln(1 + rank of h)",
    paper: "arXiv 2402.01878 (LiPO-λ)",
}
