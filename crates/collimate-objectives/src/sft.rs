//! SFT: supervised training on the best response.

use collimate_objective::{Needs, Objective, ObjectiveOutput, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

/// Raises the likelihood of each prompt's best response.
///
/// With p the mean log-probability per token:
///
/// `L = −p_w`
///
/// Tokens are averaged per response, so every prompt counts equally regardless of length. Needs no reference, and a single
/// response is enough. The implicit reward is p.
///
/// TRL's keys: none. TRL averages over all tokens of the batch instead.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sft {}

impl Objective for Sft {
    fn needs(&self) -> Needs {
        Needs { min_responses: 1, ..Needs::without_reference().without_pairs() }
    }

    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
        let implicit_rewards = groups.token_logps();
        ObjectiveOutput { loss: -groups.best(implicit_rewards.clone()), implicit_rewards }
    }
}

register_objective! {
    Sft,
    name: "sft",
    summary: "Supervised training on the best response",
    formula: "−p_w",
    paper: "maximum likelihood",
}
