//! SPPO with hard labels: log-ratios pulled to ±1/(2β).

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::pair::Pair;

/// Pulls the best response's log-ratio to 1/(2β) and the worst's to −1/(2β).
///
/// `L = (Δ_w − 1/(2β))² + (Δ_l + 1/(2β))²`
///
/// Source: Wu et al. 2024, arXiv 2405.00675, eq. 4.7 with win probabilities 1 and 0.
///
/// TRL's keys: `loss_type: sppo_hard`, `beta`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SppoHard {
    /// β: the paper's 1/η; the target log-ratios are ±1/(2β) nats.
    pub beta: Positive,
}

impl Default for SppoHard {
    fn default() -> Self {
        Self { beta: Positive::constant(0.001) }
    }
}

impl Objective for SppoHard {
    fn needs(&self) -> Needs {
        Needs::default().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let Pair { best, worst } = Pair::new(groups, groups.log_ratios());
        let target = 0.5 / self.beta.get();
        let loss = (best - target).square() + (worst + target).square();
        ObjectiveOutput { loss, implicit_rewards: groups.log_ratios() * self.beta.get() }
    }
}

register_objective! {
    SppoHard,
    name: "sppo_hard",
    summary: "Pull the log-ratios of best and worst to ±1/(2β)",
    formula: "(Δ_w − 1/(2β))² + (Δ_l + 1/(2β))²",
    paper: "arXiv 2405.00675 (SPPO)",
}
