//! Finding out which group made a figure that is not a finite number.

use collimate_data::DataFiles;
use collimate_objective::{Evaluation, GroupScores};
use collimate_text::TokenizedGroup;

use super::run::Run;
use super::step::StepInput;
use crate::error::TrainError;
use crate::session::Session;

/// A figure of a group that is not finite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Culprit {
    /// Index among the run's groups; none where no single group is at fault.
    pub(super) group: Option<usize>,
    /// The figure, for people.
    pub(super) what: String,
}

impl Culprit {
    /// As a sentence with the group's place in the data file.
    pub(super) fn describe(&self, files: &DataFiles, groups: &[TokenizedGroup]) -> String {
        let what = &self.what;
        match self.group.map(|index| &groups[index]) {
            None => format!("{what} is not finite"),
            Some(group) => {
                let place = files.place(group.index, group.line);
                format!("{what} of group {} ({place}) is not finite", group.index)
            }
        }
    }
}

/// The first log-prob of policy or reference that is not finite.
pub(super) fn in_logps(indices: &[usize], scores: &[GroupScores]) -> Option<Culprit> {
    let broken = |logps: &[f64]| logps.iter().position(|logp| !logp.is_finite());
    indices.iter().zip(scores).find_map(|(&index, scores)| {
        let policy = broken(&scores.policy_logps).map(|k| format!("the log-prob of response {k}"));
        let reference = scores.reference_logps.as_deref().and_then(broken);
        let reference = reference.map(|k| format!("the reference's log-prob of response {k}"));
        // A broken reference is what a broken policy began as.
        Some(Culprit { group: Some(index), what: reference.or(policy)? })
    })
}

/// The first loss or coefficient that is not finite.
pub(super) fn in_evaluation(indices: &[usize], evaluation: &Evaluation) -> Option<Culprit> {
    let parts = evaluation.losses.iter().zip(&evaluation.coefficients);
    indices.iter().zip(parts).find_map(|(&index, (loss, coefficients))| {
        let what = match (loss.is_finite(), coefficients.iter().all(|c| c.is_finite())) {
            (false, _) => "the loss",
            (true, false) => "the loss's gradient in the log-probs",
            (true, true) => return None,
        };
        Some(Culprit { group: Some(index), what: what.to_owned() })
    })
}

impl Run<'_> {
    /// The first group of a step whose own gradient is not finite; each is computed again, alone.
    ///
    /// # Errors
    /// As of a step.
    pub(super) fn in_gradients(
        &self,
        session: &mut dyn Session,
        input: &StepInput<'_>,
        coefficients: &[Vec<f64>],
    ) -> Result<Culprit, TrainError> {
        for (&index, coefficients) in input.visits.iter().zip(coefficients) {
            let group = [&self.groups[index]];
            for pack in self.memory.packs(&group)? {
                self.forward(session, input.step, &group, &pack)?;
                session.backward(&crate::packs::of_pack(std::slice::from_ref(coefficients), &pack));
            }
            let measured = session.step(&self.step_options(0.0, f64::NAN));
            // Counted for experts' balance; the next step must not find it.
            let _ = session.take_router_load();
            if !measured.grad_norm.is_finite() {
                return Ok(Culprit { group: Some(index), what: "the gradient".to_owned() });
            }
        }
        Ok(Culprit { group: None, what: "the sum of the prompts' gradients".to_owned() })
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
        let found = |scores: &[GroupScores]| in_logps(&[7, 9], scores).map(|culprit| (culprit.group, culprit.what));
        assert_eq!(found(&[sound.clone(), sound.clone()]), None);
        assert_eq!(found(&[sound.clone(), policy]), Some((Some(9), "the log-prob of response 1".to_owned())));
        let what = "the reference's log-prob of response 1".to_owned();
        assert_eq!(found(&[reference, sound]), Some((Some(7), what)));
    }

    #[test]
    fn losses_and_coefficients_are_looked_at() {
        let evaluation = |loss: f64, coefficient: f64| Evaluation {
            losses: vec![1.0, loss],
            implicit_rewards: vec![vec![0.0]; 2],
            coefficients: vec![vec![0.5], vec![coefficient]],
        };
        assert_eq!(in_evaluation(&[3, 4], &evaluation(1.0, 1.0)), None);
        let loss = in_evaluation(&[3, 4], &evaluation(f64::INFINITY, 1.0)).expect("a culprit");
        assert_eq!((loss.group, loss.what.as_str()), (Some(4), "the loss"));
        let coefficient = in_evaluation(&[3, 4], &evaluation(1.0, f64::NAN)).expect("a culprit");
        assert_eq!(coefficient.what, "the loss's gradient in the log-probs");
    }
}
