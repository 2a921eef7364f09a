//! RRHF: ranking by mean log-probability, plus the likelihood of the best response.

use collimate_objective::{Needs, Objective, ObjectiveOutput, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{math::relu, pairwise};

/// Orders all responses by reward with a hinge on their mean log-probabilities per token. Needs no reference.
///
/// With p the mean log-probability per token:
///
/// `L = Σ_{r_j > r_i} max(0, p_i − p_j) − p_w`
///
/// Only the order of the rewards matters, not their size; pairs with equal rewards do not count.
///
/// Source: Yuan et al. 2023, arXiv 2304.05302, eq. 2 to 4; the likelihood is averaged over tokens as in the published
/// code.
///
/// TRL's keys: none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Rrhf {}

impl Objective for Rrhf {
    fn needs(&self) -> Needs {
        Needs { pairs: true, ..Needs::without_reference() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let token_logps = groups.token_logps();
        let [num_groups, width] = token_logps.dims();
        let rewards = pairwise::numbers(groups, groups.rewards());
        let is_worse = |row: &[f64], i: usize, j: usize| i.max(j) < row.len() && row[i] < row[j];
        let wrong = pairwise::mask([num_groups, width, width], |b, i, j| is_worse(&rewards[b], i, j));
        let hinge = relu(pairwise::differences(token_logps.clone())).mask_fill(wrong.bool_not(), 0.0);
        let loss = pairwise::total(hinge) - groups.best(token_logps.clone());
        ObjectiveOutput { loss, implicit_rewards: token_logps }
    }
}

register_objective! {
    Rrhf,
    name: "rrhf",
    summary: "Order all responses by mean log-probability per token and keep the best likely, without a reference",
    formula: "Σ_{r_j>r_i} max(0, p_i − p_j) − p_w",
    paper: "arXiv 2304.05302 (RRHF)",
}
