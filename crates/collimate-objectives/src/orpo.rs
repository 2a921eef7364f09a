//! ORPO: supervised training plus an odds ratio against the worst response.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{
    math::{log_odds, log_sigmoid},
    pair::Pair,
};

/// Supervised training on the best response, plus a penalty on the worst through the odds ratio. Needs no reference.
///
/// With p the mean log-probability per token and odds(p) = e^p / (1 − e^p):
///
/// `L = −p_w − β · log σ( log odds(p_w) − log odds(p_l) )`
///
/// Odds are infinite at p = 0, so p is capped at −1e-9 inside them.
///
/// Source: Hong et al. 2024, arXiv 2403.07691, eq. 6 and 7.
///
/// TRL's keys (ORPO trainer): `beta`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orpo {
    /// β: weight of the odds ratio; the paper's λ.
    pub beta: Positive,
}

impl Default for Orpo {
    fn default() -> Self {
        Self { beta: Positive::constant(0.1) }
    }
}

impl Objective for Orpo {
    fn needs(&self) -> Needs {
        Needs::without_reference().without_pairs()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let token_logps = groups.token_logps();
        let log_odds = Pair::new(groups, log_odds(token_logps.clone())).margin();
        let loss = -groups.best(token_logps.clone()) - log_sigmoid(log_odds) * self.beta.get();
        ObjectiveOutput { loss, implicit_rewards: token_logps * self.beta.get() }
    }
}

register_objective! {
    Orpo,
    name: "orpo",
    summary: "Supervised training on the best plus an odds ratio against the worst, without a reference",
    formula: "−p_w − β log σ(log odds ratio of p_w, p_l)",
    paper: "arXiv 2403.07691 (ORPO)",
}
