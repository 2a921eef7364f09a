//! Checks the first step: before anything has changed, log-ratios are zero and the loss is known.

use collimate_objective::{Evaluation, GroupScores};

use super::run::Run;
use crate::error::TrainError;

/// Nats by which policy and reference may differ before the first step, per response.
///
/// The same kernels compute both; dividing into other packs changes float32 sums by a relative 1e-6 or so.
const LOGP_TOLERANCE: f64 = 1e-3;

/// Compares policy with reference, and the loss with its value at zero log-ratios, if the two must agree.
///
/// # Errors
/// They do not agree; the error names the group and the numbers.
pub(super) fn self_check(
    run: &Run<'_>,
    indices: &[usize],
    scores: &[GroupScores],
    evaluation: &Evaluation,
) -> Result<(), TrainError> {
    if !starts_as_reference(run) {
        return Ok(());
    }
    check_logps(run, indices, scores)?;
    // A coupled loss belongs to the whole step, so a micro-batch alone cannot reproduce it.
    match run.objective.needs().couples_batch {
        true => Ok(()),
        false => check_losses(run, indices, scores, evaluation),
    }
}

/// Whether policy and reference must agree: the reference is the start, and no dropout disturbs the policy. (A fresh
/// adapter's output is zero, so its dropout changes nothing yet.)
fn starts_as_reference(run: &Run<'_>) -> bool {
    let from_start = matches!(run.recipe.reference.as_deref(), None | Some("start"));
    let undisturbed = run.recipe.adapter.is_none() || run.recipe.lora_dropout == 0.0;
    run.training.reference().is_some() && from_start && undisturbed && !run.drops()
}

fn check_logps(run: &Run<'_>, indices: &[usize], scores: &[GroupScores]) -> Result<(), TrainError> {
    for (&index, scores) in indices.iter().zip(scores) {
        let reference = scores.reference_logps.iter().flatten();
        for (k, (policy, reference)) in scores.policy_logps.iter().zip(reference).enumerate() {
            let agrees = (policy - reference).abs() <= LOGP_TOLERANCE.max(1e-5 * reference.abs());
            // Comparisons with NaN are false, so NaN never agrees.
            if !agrees {
                let location = run.training.location(index)?;
                let message = format!(
                    "{location}, response {k}: policy {policy:.6} and reference {reference:.6} nats differ before the first step"
                );
                return Err(TrainError::SelfCheck { message });
            }
        }
    }
    Ok(())
}

fn check_losses(
    run: &Run<'_>,
    indices: &[usize],
    scores: &[GroupScores],
    evaluation: &Evaluation,
) -> Result<(), TrainError> {
    let at_start = scores
        .iter()
        .cloned()
        .map(|scores| GroupScores { policy_logps: scores.reference_logps.clone().unwrap_or_default(), ..scores });
    let expected = run.training.ask(run.objective, indices, &at_start.collect::<Vec<_>>())?;
    for ((&index, found), expected) in indices.iter().zip(&evaluation.losses).zip(&expected.losses) {
        let agrees = (found - expected).abs() <= 1e-2 * expected.abs().max(1.0);
        if !agrees {
            let location = run.training.location(index)?;
            let message = format!("{location}: the loss is {found:.6}, and {expected:.6} at zero log-ratios");
            return Err(TrainError::SelfCheck { message });
        }
    }
    Ok(())
}
