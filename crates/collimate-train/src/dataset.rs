//! Tokenized groups with everything needed to ask the objective about them.

use collimate_data::DataFiles;
use collimate_objective::{Evaluation, GroupScores, Objective, ObjectiveError, evaluate};
use collimate_report::GroupOutcome;
use collimate_text::TokenizedGroup;

use crate::error::TrainError;

/// Tokenized groups, the files they come from, and the reference's log-probs of their responses.
#[derive(Debug)]
pub(crate) struct DataSet {
    pub(crate) groups: Vec<TokenizedGroup>,
    files: DataFiles,
    /// By group and response, in nats. Empty for a group that the run never visits; `None` if the objective needs no
    /// reference.
    pub(crate) reference: Option<Vec<Vec<f64>>>,
}

impl DataSet {
    /// Groups without reference log-probs yet.
    pub(crate) fn new(groups: Vec<TokenizedGroup>, files: DataFiles) -> Self {
        Self { groups, files, reference: None }
    }

    /// The groups at `indices`, in that order.
    pub(crate) fn select(&self, indices: &[usize]) -> Vec<&TokenizedGroup> {
        indices.iter().map(|&index| &self.groups[index]).collect()
    }

    /// File and line of a group.
    pub(crate) fn location(&self, group: &TokenizedGroup) -> String {
        self.files.place(group.index, group.line)
    }

    /// Builds the objective's inputs for the groups at `indices` from the policy's log-probs of their responses.
    pub(crate) fn scores(&self, indices: &[usize], policy: Vec<Vec<f64>>) -> Vec<GroupScores> {
        let scores = indices.iter().zip(policy).map(|(&index, policy_logps)| {
            let responses = &self.groups[index].responses;
            GroupScores {
                policy_logps,
                reference_logps: self.reference.as_ref().map(|reference| reference[index].clone()),
                rewards: responses.iter().map(|response| response.reward).collect(),
                lengths: responses.iter().map(|response| response.ids.len()).collect(),
            }
        });
        scores.collect()
    }

    /// Asks the objective about the groups at `indices`.
    ///
    /// # Errors
    /// The objective rejects the numbers; the error names the file and line of the group at fault.
    pub(crate) fn ask(
        &self,
        objective: &dyn Objective,
        indices: &[usize],
        scores: &[GroupScores],
    ) -> Result<Evaluation, TrainError> {
        evaluate(objective, scores).map_err(|source| match &source {
            ObjectiveError::InvalidGroup { group, .. } => {
                let location = self.location(&self.groups[indices[*group]]);
                TrainError::ObjectiveOnGroup { location, source: Box::new(source) }
            }
            _ => source.into(),
        })
    }

    /// Adds the tokens and rewards of all groups to a hash; `part` tells training from held-out data.
    pub(crate) fn hash_into(&self, hasher: &mut blake3::Hasher, part: u8) {
        for group in &self.groups {
            hasher.update(&[part]);
            for ids in std::iter::once(&group.prompt_ids).chain(group.responses.iter().map(|response| &response.ids)) {
                hasher.update(&(ids.len() as u64).to_le_bytes());
                ids.iter().for_each(|id| {
                    hasher.update(&id.to_le_bytes());
                });
            }
            group.responses.iter().for_each(|response| {
                hasher.update(&response.reward.to_le_bytes());
            });
        }
    }
}

/// Joins the objective's inputs with the implicit rewards it returned, for the metrics.
pub(crate) fn group_outcomes(scores: Vec<GroupScores>, implicit_rewards: &[Vec<f64>]) -> Vec<GroupOutcome> {
    let outcomes = scores.into_iter().zip(implicit_rewards).map(|(scores, implicit_rewards)| GroupOutcome {
        implicit_rewards: implicit_rewards.clone(),
        rewards: scores.rewards,
        policy_logps: scores.policy_logps,
        reference_logps: scores.reference_logps,
        num_tokens: scores.lengths,
    });
    outcomes.collect()
}
