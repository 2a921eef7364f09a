//! Evaluates groups that come one after another, without holding them all.

use crate::evaluate::{Part, evaluate};
use crate::{GroupScores, Needs, Objective, ObjectiveError};

/// A group that was evaluated, with what an [`Evaluation`](crate::Evaluation) says of it but for its coefficients.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluatedGroup {
    /// The group.
    pub scores: GroupScores,
    /// Its loss in nats.
    pub loss: f64,
    /// Implicit reward of each response, \[K\].
    pub implicit_rewards: Vec<f64>,
}

/// Evaluates an objective on groups that come one after another, in the parts in which [`evaluate`] would divide all of them,
/// so that every number is the same. Only one part is held, or all groups if the objective couples them.
///
/// ```
/// # use collimate_objective::{GroupScores, Objective, ObjectiveOutput, ScoredGroups, StreamedEvaluation};
/// # #[derive(Debug)]
/// # struct Perceptron;
/// # impl Objective for Perceptron {
/// #     fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
/// #         let implicit_rewards = groups.log_ratios();
/// #         let loss = groups.worst(implicit_rewards.clone()) - groups.best(implicit_rewards.clone());
/// #         ObjectiveOutput { loss, implicit_rewards }
/// #     }
/// # }
/// let mut evaluation = StreamedEvaluation::new(&Perceptron);
/// let mut losses = Vec::new();
/// for shift in [0.0, 1.0] {
///     let group = GroupScores {
///         policy_logps: vec![-10.0 + shift, -12.0],
///         reference_logps: Some(vec![-11.0, -11.0]),
///         rewards: vec![1.0, 0.0],
///         lengths: vec![7, 8],
///     };
///     losses.extend(evaluation.add(group)?.into_iter().map(|group| group.loss));
/// }
/// losses.extend(evaluation.finish()?.into_iter().map(|group| group.loss));
/// assert_eq!(losses, [-2.0, -3.0]);
/// # Ok::<(), collimate_objective::ObjectiveError>(())
/// ```
#[derive(Debug)]
pub struct StreamedEvaluation<'a> {
    objective: &'a dyn Objective,
    needs: Needs,
    /// The groups that wait, and their sizes.
    waiting: Vec<GroupScores>,
    part: Part,
    num_done: usize,
}

impl<'a> StreamedEvaluation<'a> {
    /// An evaluation without groups yet.
    pub fn new(objective: &'a dyn Objective) -> Self {
        Self { objective, needs: objective.needs(), waiting: Vec::new(), part: Part::default(), num_done: 0 }
    }

    /// Adds a group; returns those that were waiting if they make up a part without it.
    ///
    /// # Errors
    /// As [`evaluate`]; a group is named by its index among all that were added.
    pub fn add(&mut self, group: GroupScores) -> Result<Vec<EvaluatedGroup>, ObjectiveError> {
        let width = group.num_responses();
        if self.part.add(&self.needs, width) {
            self.waiting.push(group);
            return Ok(Vec::new());
        }
        let done = self.evaluate()?;
        self.part.add(&self.needs, width);
        self.waiting.push(group);
        Ok(done)
    }

    /// Evaluates the groups that are left.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn finish(mut self) -> Result<Vec<EvaluatedGroup>, ObjectiveError> {
        self.evaluate()
    }

    fn evaluate(&mut self) -> Result<Vec<EvaluatedGroup>, ObjectiveError> {
        if self.waiting.is_empty() {
            return Ok(Vec::new());
        }
        let groups = std::mem::take(&mut self.waiting);
        self.part = Part::default();
        let found = evaluate(self.objective, &groups).map_err(|error| error.after_groups(self.num_done))?;
        self.num_done += groups.len();
        let parts = groups.into_iter().zip(found.losses).zip(found.implicit_rewards);
        Ok(parts.map(|((scores, loss), implicit_rewards)| EvaluatedGroup { scores, loss, implicit_rewards }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::PART_NUMBERS;
    use crate::{ObjectiveOutput, ScoredGroups};

    /// log σ of nothing in particular: implicit rewards that are no round numbers.
    #[derive(Debug)]
    struct Margin {
        couples_batch: bool,
    }

    impl Objective for Margin {
        fn needs(&self) -> Needs {
            Needs { couples_batch: self.couples_batch, ..Needs::default().without_pairs() }
        }

        fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput {
            let implicit_rewards = groups.log_ratios() / 3.0;
            let loss = groups.worst(implicit_rewards.clone()) - groups.best(implicit_rewards.clone());
            // Of a coupled one, every loss has the mean of all.
            let mean = if self.couples_batch { loss.clone().mean() } else { loss.clone().mean() * 0.0 };
            ObjectiveOutput { loss: loss + mean, implicit_rewards }
        }
    }

    fn groups(widths: impl Iterator<Item = usize>) -> Vec<GroupScores> {
        let group = |(index, width): (usize, usize)| {
            let numbers =
                |salt: usize| (0..width).map(|k| -(((index * 31 + k * 7 + salt) % 101) as f64) / 7.0).collect();
            GroupScores {
                policy_logps: numbers(1),
                reference_logps: Some(numbers(5)),
                rewards: (0..width).map(|k| (k * 17 % 11) as f64).collect(),
                lengths: vec![3; width],
            }
        };
        widths.enumerate().map(group).collect()
    }

    /// The groups one by one, and the most that waited.
    fn streamed(objective: &Margin, groups: &[GroupScores]) -> (Vec<EvaluatedGroup>, usize) {
        let mut evaluation = StreamedEvaluation::new(objective);
        let (mut found, mut most) = (Vec::new(), 0);
        for group in groups {
            found.extend(evaluation.add(group.clone()).expect("valid groups"));
            most = most.max(evaluation.waiting.len());
        }
        found.extend(evaluation.finish().expect("valid groups"));
        (found, most)
    }

    #[test]
    fn groups_one_by_one_have_the_numbers_of_all_at_once() {
        let unequal = (0..3000).map(|index| if index == 1000 { 3000 } else { 2 + index % 3 });
        let many = std::iter::repeat_n(2, 2 * PART_NUMBERS / 3);
        for (groups, couples_batch) in [(groups(unequal), false), (groups(many), false), (groups(2..40), true)] {
            let objective = Margin { couples_batch };
            let all = evaluate(&objective, &groups).expect("valid groups");
            let (found, most) = streamed(&objective, &groups);
            assert_eq!(found.iter().map(|group| group.loss).collect::<Vec<_>>(), all.losses);
            assert!(found.iter().map(|group| &group.implicit_rewards).eq(&all.implicit_rewards));
            assert!(found.iter().map(|group| &group.scores).eq(&groups));
            // Only a coupled one waits for all.
            assert_eq!(most == groups.len(), couples_batch, "{most} of {} groups waited", groups.len());
        }
    }

    #[test]
    fn an_error_names_the_group_by_its_index_among_all() {
        let mut groups = groups((0..300).map(|index| if index == 100 { 60_000 } else { 2 }));
        groups[200].rewards[1] = f64::NAN;
        let mut evaluation = StreamedEvaluation::new(&Margin { couples_batch: false });
        let added = groups.into_iter().try_for_each(|group| evaluation.add(group).map(drop));
        let error = added.and_then(|()| evaluation.finish().map(drop)).expect_err("not a number");
        assert!(matches!(&error, ObjectiveError::InvalidGroup { group: 200, .. }), "{error}");
    }
}
