//! Whether an objective holds a response's likelihood, or only differences between responses.

use crate::{GroupScores, Objective, evaluate};

/// How far both log-probs fall in the comparison, in nats: a visible loss even at a β of 0.001.
const FALL: f64 = 1000.0;

/// Whether the loss rises when all responses of a prompt become less likely together.
///
/// It does for objectives that fix each response's likelihood (NCA, SFT). It does not for objectives that see only
/// differences, whose optimum lets the likelihood of the best response sink with that of the others. Found by evaluating,
/// so it holds for plugins and sums too.
pub fn holds_likelihood(objective: &dyn Objective) -> bool {
    let num_responses = objective.needs().min_responses.max(2);
    let loss = |fall: f64| {
        let group = GroupScores {
            policy_logps: vec![-10.0 - fall; num_responses],
            reference_logps: Some(vec![-10.0; num_responses]),
            rewards: (0..num_responses).rev().map(|reward| reward as f64).collect(),
            lengths: vec![10; num_responses],
        };
        Some(evaluate(objective, &[group]).ok()?.mean_loss()).filter(|loss| loss.is_finite())
    };
    // Rounding of βΔ at 1,000 nats stays far below the margin.
    loss(0.0).zip(loss(FALL)).is_some_and(|(before, after)| after > before + 1e-6 * before.abs().max(1.0))
}
