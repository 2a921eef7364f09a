//! RRHF: ranking by mean log-probability, plus the likelihood of the best response.

use collimate_objective::{Needs, Objective, ObjectiveOutput, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::by_hand::{self, Differentiated};

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
        Needs { max_responses: Some(by_hand::MOST_COMPARED), ..Needs::without_reference().without_pairs() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let token_logps = groups.token_logps();
        let rewards = by_hand::numbers(groups, groups.rewards());
        let hinges = by_hand::losses(groups, &token_logps, |b, logps| hinges(logps, &rewards[b]));
        ObjectiveOutput { loss: hinges - groups.best(token_logps.clone()), implicit_rewards: token_logps }
    }
}

/// Σ max(0, p_i − p_j) over the pairs with r_j > r_i; no tensor holds the pairs.
fn hinges(logps: &[f64], rewards: &[f64]) -> Differentiated {
    let mut sum = Differentiated::zero(logps.len());
    for i in 0..logps.len() {
        for j in (0..logps.len()).filter(|&j| rewards[j] > rewards[i] && logps[i] > logps[j]) {
            sum.loss += logps[i] - logps[j];
            sum.gradient[i] += 1.0;
            sum.gradient[j] -= 1.0;
        }
    }
    sum
}

register_objective! {
    Rrhf,
    name: "rrhf",
    summary: "Order all responses by mean log-probability per token and keep the best likely, without a reference",
    formula: "Σ_{r_j>r_i} max(0, p_i − p_j) − p_w",
    paper: "arXiv 2304.05302 (RRHF)",
}
