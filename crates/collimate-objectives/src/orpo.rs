//! ORPO: supervised training with an odds ratio against the worst response.

use collimate_objective::{Needs, Objective, ObjectiveOutput, Positive, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

use crate::{
    math::{log_odds, log_sigmoid},
    pair::Pair,
};

/// Supervised training on the best response with a penalty on the worst by the ratio of their odds; needs no reference.
///
/// With p the mean log-probability of a token and odds(p) = e^p / (1 − e^p):
///
/// `L = −p_w − β · log σ( log odds(p_w) − log odds(p_l) )`
///
/// Mean log-probabilities above −1e-9 are taken as −1e-9 inside the odds, which are infinite at 0.
///
/// Source: Hong et al. 2024, arXiv 2403.07691, eq. 6 and 7.
///
/// TRL's keys (ORPO trainer): `beta` as here (the paper's λ).
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
        Needs::without_reference()
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let token_logps = groups.token_logps();
        let log_odds = Pair::of(groups, log_odds(token_logps.clone())).margin();
        let loss = -groups.best(token_logps.clone()) - log_sigmoid(log_odds) * self.beta.get();
        ObjectiveOutput { loss, implicit_rewards: token_logps * self.beta.get() }
    }
}

register_objective! {
    Orpo,
    name: "orpo",
    summary: "Supervised training on the best plus an odds ratio against the worst, no reference",
    formula: "−p_w − β log σ(log odds ratio of p_w, p_l)",
    paper: "arXiv 2403.07691 (ORPO)",
}
