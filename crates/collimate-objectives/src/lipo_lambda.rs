//! LiPO-λ: all pairs of responses, weighted by the ranking gain at stake.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{math::log_sigmoid, pairwise};

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
        Needs { pairs: true, ..Needs::default() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let [num_groups, width] = implicit_rewards.dims();
        let rewards = pairwise::numbers(groups, groups.rewards());
        let heights = pairwise::numbers(groups, implicit_rewards.clone());
        let discounts: Vec<Vec<f64>> = heights.iter().zip(&rewards).map(|(h, r)| inverse_discounts(h, r)).collect();
        let weights = pairwise::constant([num_groups, width, width], |b, i, j| {
            let (row, discount) = (&rewards[b], &discounts[b]);
            match i.max(j) < row.len() && row[i] > row[j] {
                true => (row[i].exp2() - row[j].exp2()) * (discount[i] - discount[j]).abs(),
                false => 0.0,
            }
        });
        let losses = -log_sigmoid(pairwise::differences(implicit_rewards.clone()));
        ObjectiveOutput { loss: pairwise::total(losses * weights), implicit_rewards }
    }
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
