//! Plackett–Luce: the whole ranking of K responses.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::pairwise;

/// Maximises the likelihood of the ranking by reward.
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
        Needs { pairs: true, ..Needs::default() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.log_ratios() * self.beta.get();
        let sorted = groups.sorted_by_reward(implicit_rewards.clone());
        let [num_groups, width] = sorted.dims();
        // [b, k, j] is true if j is still unranked at position k. An absent position has only itself, which adds ln 1 = 0.
        let counts = groups.counts();
        let unranked = pairwise::mask([num_groups, width, width], |b, k, j| {
            if k < counts[b] { (k..counts[b]).contains(&j) } else { j == k }
        });
        let values = sorted.clone().unsqueeze_dim::<3>(1).repeat_dim(1, width);
        let values = values.mask_fill(unranked.bool_not(), f64::NEG_INFINITY);
        let highest = values.clone().max_dim(2).detach();
        let total = (values - highest.clone()).exp().sum_dim(2).log() + highest;
        // Sorting keeps the present responses in front, so `sum` masks the right columns.
        ObjectiveOutput { loss: groups.sum(total.squeeze_dim(2) - sorted), implicit_rewards }
    }
}

register_objective! {
    PlackettLuce,
    name: "plackett_luce",
    summary: "Likelihood of the ranking, relative to the reference (K responses)",
    formula: "−Σ_k log( e^{h_τ(k)} / Σ_{j≥k} e^{h_τ(j)} ), τ = best first",
    paper: "arXiv 2305.18290 (DPO, appendix A.3)",
}
