//! SFT: supervised training on the best response.

use collimate_objective::{Needs, Objective, ObjectiveOutput, ScoredGroups, register_objective};
use serde::{Deserialize, Serialize};

/// Raises the likelihood of each prompt's best response, and nothing else.
///
/// With p the mean log-probability of a token:
///
/// `L = −p_w`
///
/// A prompt's tokens are averaged first, so every prompt counts the same whatever its length. It needs no reference
/// and works from one response on; its implicit reward is p.
///
/// TRL's keys: none; TRL averages over all tokens of the batch instead.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sft {}

impl Objective for Sft {
    fn needs(&self) -> Needs {
        Needs { min_responses: 1, ..Needs::without_reference() }
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
