//! Finds the group whose figures are not finite, and the prompt whose answer cannot be drawn.

use collimate_objective::{Evaluation, GroupScores};
use collimate_progress::Observer;
use collimate_session::SessionError;

use crate::dataset::DataSet;
use crate::error::TrainError;

/// A figure that is not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Culprit {
    /// Index among the run's groups; `None` if no single group is at fault.
    pub(super) group: Option<usize>,
    /// Description of the figure.
    pub(super) figure: String,
}

impl Culprit {
    /// A sentence with the group's file and line.
    pub(super) fn describe(&self, data: &DataSet) -> Result<String, TrainError> {
        let figure = &self.figure;
        let Some(index) = self.group else { return Ok(format!("{figure} is not finite")) };
        let (number, location) = (data.head(index)?.index, data.location(index)?);
        Ok(format!("{figure} of group {number} ({location}) is not finite"))
    }
}

/// The first log-prob of policy or reference that is not finite.
pub(super) fn in_logps(indices: &[usize], scores: &[GroupScores]) -> Option<Culprit> {
    let broken = |logps: &[f64]| logps.iter().position(|logp| !logp.is_finite());
    indices.iter().zip(scores).find_map(|(&index, scores)| {
        let policy = broken(&scores.policy_logps).map(|k| format!("the log-prob of response {k}"));
        let reference = scores.reference_logps.as_deref().and_then(broken);
        let reference = reference.map(|k| format!("the reference's log-prob of response {k}"));
        // The policy starts as the reference, so a broken reference explains a broken policy.
        Some(Culprit { group: Some(index), figure: reference.or(policy)? })
    })
}

/// The first loss or coefficient that is not finite.
pub(super) fn in_evaluation(indices: &[usize], evaluation: &Evaluation) -> Option<Culprit> {
    let parts = evaluation.losses.iter().zip(&evaluation.coefficients);
    indices.iter().zip(parts).find_map(|(&index, (loss, coefficients))| {
        let figure = match (loss.is_finite(), coefficients.iter().all(|c| c.is_finite())) {
            (false, _) => "the loss",
            (true, false) => "the loss's gradient in the log-probs",
            (true, true) => return None,
        };
        Some(Culprit { group: Some(index), figure: figure.to_owned() })
    })
}

/// What was drawn; `None`, with a note, if logits are not finite: whether such a model may be trained on is for the steps to
/// say.
pub(super) fn drawn_or_noted<T>(
    drawn: Result<T, SessionError>,
    location: impl FnOnce(usize) -> String,
    observer: &mut dyn Observer,
) -> Result<Option<T>, TrainError> {
    match drawn.map_err(|error| TrainError::from(error).at_prompt(location)) {
        Ok(drawn) => Ok(Some(drawn)),
        Err(error @ TrainError::RowNotFinite { .. }) => {
            observer.finish();
            observer.note(&format!("warning: {error}; the sample prompts from there on have no answer"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(policy: &[f64], reference: Option<&[f64]>) -> GroupScores {
        GroupScores {
            policy_logps: policy.to_vec(),
            reference_logps: reference.map(<[f64]>::to_vec),
            rewards: vec![0.0; policy.len()],
            lengths: vec![1; policy.len()],
        }
    }

    #[test]
    fn the_first_broken_figure_is_named_with_its_group() {
        let sound = scores(&[-1.0, -2.0], Some(&[-1.0, -2.0]));
        let policy = scores(&[-1.0, f64::NAN], Some(&[-1.0, -2.0]));
        let reference = scores(&[f64::NAN, -1.0], Some(&[-1.0, f64::NEG_INFINITY]));
        let found = |scores: &[GroupScores]| in_logps(&[7, 9], scores).map(|culprit| (culprit.group, culprit.figure));
        assert_eq!(found(&[sound.clone(), sound.clone()]), None);
        assert_eq!(found(&[sound.clone(), policy]), Some((Some(9), "the log-prob of response 1".to_owned())));
        let what = "the reference's log-prob of response 1".to_owned();
        assert_eq!(found(&[reference, sound]), Some((Some(7), what)));
    }

    #[test]
    fn losses_and_coefficients_are_checked() {
        let evaluation = |loss: f64, coefficient: f64| Evaluation {
            losses: vec![1.0, loss],
            implicit_rewards: vec![vec![0.0]; 2],
            coefficients: vec![vec![0.5], vec![coefficient]],
        };
        assert_eq!(in_evaluation(&[3, 4], &evaluation(1.0, 1.0)), None);
        let loss = in_evaluation(&[3, 4], &evaluation(f64::INFINITY, 1.0)).expect("a culprit");
        assert_eq!((loss.group, loss.figure.as_str()), (Some(4), "the loss"));
        let coefficient = in_evaluation(&[3, 4], &evaluation(1.0, f64::NAN)).expect("a culprit");
        assert_eq!(coefficient.figure, "the loss's gradient in the log-probs");
    }
}
