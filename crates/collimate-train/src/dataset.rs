//! A run's groups with everything needed to ask the objective about them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use collimate_objective::{Evaluation, GroupScores, Objective, ObjectiveError, evaluate};
use collimate_report::GroupOutcome;
use collimate_store::{GroupHead, GroupNumbers, GroupStore, StoreError, StoreFolder, Totals};
use collimate_text::TokenizedGroup;

use crate::error::TrainError;

/// Groups by index, read as they are needed, and the reference's log-probs of their responses.
#[derive(Debug)]
pub(crate) struct DataSet {
    pub(crate) store: GroupStore,
    pub(crate) store_folder: StoreFolder,
    /// In nats; only of groups that the run has to know by now. `None` if the objective needs no reference. Behind a lock because
    /// a run fills them in while it goes on.
    reference: Mutex<Option<GroupNumbers>>,
}

impl DataSet {
    /// Groups without reference log-probs yet.
    pub(crate) fn new(store: GroupStore, store_folder: StoreFolder) -> Self {
        Self { store, store_folder, reference: Mutex::new(None) }
    }

    /// Number of groups.
    pub(crate) fn len(&self) -> usize {
        self.store.len()
    }

    /// Totals over all groups.
    pub(crate) fn totals(&self) -> &Totals {
        self.store.totals()
    }

    /// The groups at `indices`, in that order.
    pub(crate) fn select(&self, indices: &[usize]) -> Result<Vec<TokenizedGroup>, TrainError> {
        indices.iter().map(|&index| Ok(self.store.group(index)?)).collect()
    }

    /// The same without their tokens.
    pub(crate) fn heads(&self, indices: &[usize]) -> Result<Vec<GroupHead>, TrainError> {
        indices.iter().map(|&index| Ok(self.store.head(index)?)).collect()
    }

    /// File and line of a group.
    pub(crate) fn location(&self, index: usize) -> Result<String, TrainError> {
        Ok(self.store.location(index)?)
    }

    /// Room for the reference's log-probs.
    pub(crate) fn no_numbers(&self) -> Result<GroupNumbers, TrainError> {
        Ok(GroupNumbers::new(self.len(), self.totals().num_responses, self.store_folder.spool())?)
    }

    /// The reference's log-probs.
    pub(crate) fn reference(&self) -> MutexGuard<'_, Option<GroupNumbers>> {
        self.reference.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds the objective's inputs for the groups at `indices` from the policy's log-probs of their responses.
    pub(crate) fn scores(&self, indices: &[usize], policy: Vec<Vec<f64>>) -> Result<Vec<GroupScores>, TrainError> {
        let numbers = self.reference();
        let scores = indices.iter().zip(policy).map(|(&index, policy_logps)| {
            let head = self.store.head(index)?;
            let reference = |numbers: &GroupNumbers| numbers.get(head.first_response, head.responses.len());
            Ok::<_, StoreError>(GroupScores {
                policy_logps,
                reference_logps: numbers.as_ref().map(reference).transpose()?,
                rewards: head.responses.iter().map(|response| response.reward).collect(),
                lengths: head.responses.iter().map(|response| response.tokens as usize).collect(),
            })
        });
        Ok(scores.collect::<Result<_, _>>()?)
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
        evaluate(objective, scores).map_err(|source| self.at_group(source, |group| indices[group]))
    }

    /// Names the file and line of the group that an objective rejects, which is at this index here.
    pub(crate) fn at_group(&self, source: ObjectiveError, index: impl FnOnce(usize) -> usize) -> TrainError {
        match &source {
            ObjectiveError::InvalidGroup { group, .. } => match self.location(index(*group)) {
                Ok(location) => TrainError::ObjectiveOnGroup { location, source: Box::new(source) },
                Err(error) => error,
            },
            _ => source.into(),
        }
    }
}

/// Joins the objective's inputs with the implicit rewards it returned, for the metrics.
pub(crate) fn group_outcome(scores: GroupScores, implicit_rewards: Vec<f64>) -> GroupOutcome {
    GroupOutcome {
        implicit_rewards,
        rewards: scores.rewards,
        policy_logps: scores.policy_logps,
        reference_logps: scores.reference_logps,
        num_tokens: scores.lengths,
    }
}
