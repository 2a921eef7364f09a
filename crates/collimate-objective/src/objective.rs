//! The trait every objective implements.

use std::fmt::Debug;

use crate::{Needs, ObjectiveBackend, ScoredGroups, StepRows, Tensor};

/// A loss over the log-probabilities of a prompt's K scored responses.
///
/// Implementations must be pure: the same groups always give the same output.
pub trait Objective: Debug + Send + Sync {
    /// What the objective must be given; checked before anything is computed.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Of an objective with [`Needs::mismatched_pairs`], the rows of a step whose responses are scored under the model's null
    /// condition alone, as both conditions; by default none. A row's own prompt stays the negative of the row before.
    ///
    /// The answer depends on `rows` alone, so that a resumed run repeats it.
    fn unconditional_rows(&self, rows: StepRows) -> Vec<bool> {
        vec![false; rows.count]
    }

    /// Computes each prompt's loss and its responses' implicit rewards.
    ///
    /// # Shapes
    /// `groups` holds `[B, K]` tensors in which absent responses are masked; the loss is `[B]`, the implicit rewards
    /// `[B, K]`. Absent responses must not affect the result: use the masked helpers of [`ScoredGroups`].
    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput;
}

/// An objective's result; both tensors must be float64 and computed from the policy's log-probabilities.
#[derive(Debug, Clone)]
pub struct ObjectiveOutput {
    /// Loss of each prompt in nats, `[B]`.
    pub loss: Tensor<ObjectiveBackend, 1>,
    /// The reward the policy implies for each response, `[B, K]`: βΔ for objectives with a reference. Values of absent
    /// responses are ignored.
    pub implicit_rewards: Tensor<ObjectiveBackend, 2>,
}
