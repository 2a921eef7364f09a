//! A run's groups with everything needed to ask the objective about them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use collimate_objective::{Evaluation, GroupScores, Objective, ObjectiveError, evaluate, under_both_prompts};
use collimate_report::GroupOutcome;
use collimate_store::{GroupHead, GroupNumbers, GroupStore, Pairs, StoreError, StoreFolder, Totals};
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
    /// Groups under the prompts of others, if the objective compares these. Their numbers follow those of the groups.
    pairs: Option<Pairs>,
    /// Whether groups keep their rewards beside these, in place of 1 under their own prompt and 0 under the other.
    keeps_rewards: bool,
}

impl DataSet {
    /// Groups without reference log-probs yet.
    pub(crate) fn new(store: GroupStore, store_folder: StoreFolder) -> Self {
        Self { store, store_folder, reference: Mutex::new(None), pairs: None, keeps_rewards: false }
    }

    /// Adds the pairs of micro-batches, whose groups have other neighbors in each of `num_epochs`.
    pub(crate) fn add_pairs(
        &mut self,
        null_prompt: Option<u32>,
        num_epochs: usize,
        keeps_rewards: bool,
    ) -> Result<(), TrainError> {
        self.pairs = Some(Pairs::new(&self.store, null_prompt, num_epochs)?);
        self.keeps_rewards = keeps_rewards;
        Ok(())
    }

    /// What a micro-batch of groups scores: the groups, or all of them under their prompts and then under their other ones.
    pub(crate) fn scored(&self, batch: &MicroBatch) -> Vec<usize> {
        match &self.pairs {
            None => batch.groups.clone(),
            Some(pairs) => pairs.numbers(batch.epoch, &batch.groups, &batch.masked),
        }
    }

    /// How often a group is scored.
    pub(crate) fn times_scored(&self) -> usize {
        if self.pairs.is_some() { 2 } else { 1 }
    }

    /// Where the numbers of a group or pair are kept.
    pub(crate) fn place(&self, index: usize) -> usize {
        self.pairs.as_ref().map_or(index, |pairs| pairs.place(index))
    }

    /// Tokens of the longest response with its prompt, or more where pairs are scored.
    pub(crate) fn longest(&self) -> usize {
        self.pairs.as_ref().map_or(self.totals().longest, Pairs::longest)
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
        let group = |index| match &self.pairs {
            None => self.store.group(index),
            Some(pairs) => pairs.group(&self.store, index),
        };
        indices.iter().map(|&index| Ok(group(index)?)).collect()
    }

    /// Starts to load the images of the groups at `indices`, which are read next, while the model computes.
    pub(crate) fn prefetch(&self, indices: &[usize]) {
        match &self.pairs {
            None => self.store.prefetch(indices),
            Some(pairs) => self.store.prefetch(&indices.iter().map(|&index| pairs.group_of(index)).collect::<Vec<_>>()),
        }
    }

    /// A group or pair without its tokens.
    pub(crate) fn head(&self, index: usize) -> Result<GroupHead, StoreError> {
        match &self.pairs {
            None => self.store.head(index),
            Some(pairs) => pairs.head(&self.store, index),
        }
    }

    /// The same without their tokens.
    pub(crate) fn heads(&self, indices: &[usize]) -> Result<Vec<GroupHead>, TrainError> {
        indices.iter().map(|&index| Ok(self.head(index)?)).collect()
    }

    /// File and line of a group.
    pub(crate) fn location(&self, index: usize) -> Result<String, TrainError> {
        Ok(self.store.location(self.pairs.as_ref().map_or(index, |pairs| pairs.group_of(index)))?)
    }

    /// Room for the reference's log-probs.
    pub(crate) fn no_numbers(&self) -> Result<GroupNumbers, TrainError> {
        let num_places = self.pairs.as_ref().map_or(self.len(), Pairs::num_places);
        let num_responses = self.pairs.as_ref().map_or(self.totals().num_responses, Pairs::num_responses);
        Ok(GroupNumbers::new(num_places, num_responses, self.store_folder.spool())?)
    }

    /// The reference's log-probs.
    pub(crate) fn reference(&self) -> MutexGuard<'_, Option<GroupNumbers>> {
        self.reference.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds the objective's inputs for the groups at `indices`, which are those of a micro-batch, from the policy's log-probs
    /// of their responses.
    pub(crate) fn scores(&self, indices: &[usize], policy: Vec<Vec<f64>>) -> Result<Vec<GroupScores>, TrainError> {
        let numbers = self.reference();
        let scores = indices.iter().zip(policy).map(|(&index, policy_logps)| {
            let head = self.head(index)?;
            let reference = |numbers: &GroupNumbers| numbers.get(head.first_response, head.responses.len());
            Ok::<_, StoreError>(GroupScores {
                policy_logps,
                reference_logps: numbers.as_ref().map(reference).transpose()?,
                rewards: head.responses.iter().map(|response| response.reward).collect(),
                lengths: head.responses.iter().map(|response| response.tokens as usize).collect(),
            })
        });
        let scores = scores.collect::<Result<Vec<_>, _>>()?;
        if self.pairs.is_none() {
            return Ok(scores);
        }
        let half = indices.len() / 2;
        Ok(under_both_prompts(scores, |row| indices[row] == indices[row + half], self.keeps_rewards))
    }

    /// Coefficients of what was scored, given those of the objective's inputs.
    pub(crate) fn by_scored(&self, coefficients: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        if self.pairs.is_none() {
            return coefficients;
        }
        let halves = |half: usize| {
            coefficients.iter().map(move |row| row[half * row.len() / 2..(half + 1) * row.len() / 2].to_vec())
        };
        halves(0).chain(halves(1)).collect()
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

/// Groups of a micro-batch, and which of them are taken under the null prompt alone.
#[derive(Debug, Clone)]
pub(crate) struct MicroBatch {
    pub(crate) epoch: usize,
    pub(crate) groups: Vec<usize>,
    pub(crate) masked: Vec<bool>,
}

/// Joins the objective's inputs with the implicit rewards it returned, for the metrics. What stands beside the responses that
/// have one is left out.
pub(crate) fn group_outcome(mut scores: GroupScores, implicit_rewards: Vec<f64>) -> GroupOutcome {
    let count = implicit_rewards.len();
    scores.reference_logps.iter_mut().for_each(|logps| logps.truncate(count));
    scores.policy_logps.truncate(count);
    scores.rewards.truncate(count);
    scores.lengths.truncate(count);
    GroupOutcome {
        implicit_rewards,
        rewards: scores.rewards,
        policy_logps: scores.policy_logps,
        reference_logps: scores.reference_logps,
        num_tokens: scores.lengths,
    }
}
