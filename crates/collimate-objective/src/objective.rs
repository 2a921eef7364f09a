//! The trait that every objective implements.

use std::fmt::Debug;

use crate::{ObjectiveBackend, ScoredGroups, Tensor};

/// A loss over the log-probabilities of a prompt's K scored responses.
///
/// Implementations are pure: the same groups give the same output, and nothing is kept between calls.
pub trait Objective: Debug + Send + Sync {
    /// What must be supplied; checked once, before any compute.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Loss of each prompt and the implicit rewards of its responses.
    ///
    /// # Shapes
    /// `groups` holds `[B, K]` tensors with absent responses masked; the output is `[B]` and `[B, K]`. Absent responses
    /// must change nothing: use the masked helpers of [`ScoredGroups`].
    fn evaluate(&self, groups: &ScoredGroups) -> ObjectiveOutput;
}

/// What an objective must be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Reference log-probabilities are used; where false they are withheld, so they cannot matter.
    pub reference: bool,
    /// Fewest responses a prompt may have.
    pub min_responses: usize,
    /// Most responses a prompt may have; `None` for any number.
    pub max_responses: Option<usize>,
    /// A prompt's loss depends on the other prompts of the batch (as in AOT or KTO).
    pub couples_batch: bool,
    /// A part of the loss that depends on the policy is a constant to its gradient (KTO's reference point), so the
    /// coefficients are not the differences of the loss.
    pub holds_constant: bool,
    /// Log-probabilities of responses under another prompt are used (as in CCA or KTO).
    ///
    /// Nothing scores such pairs yet: an objective that asks for them is refused.
    pub mismatched_pairs: bool,
}

impl Default for Needs {
    /// A reference, at least two responses, each prompt by itself.
    fn default() -> Self {
        Self {
            reference: true,
            min_responses: 2,
            max_responses: None,
            couples_batch: false,
            holds_constant: false,
            mismatched_pairs: false,
        }
    }
}

impl Needs {
    /// The default without a reference model.
    pub fn without_reference() -> Self {
        Self { reference: false, ..Self::default() }
    }
}

/// What an objective returns; both tensors float64 and connected to the policy's log-probabilities.
#[derive(Debug, Clone)]
pub struct ObjectiveOutput {
    /// Loss of each prompt in nats, `[B]`.
    pub loss: Tensor<ObjectiveBackend, 1>,
    /// The reward that the policy implies for each response, `[B, K]`; a log-ratio to the reference times β for
    /// objectives with a reference. Values of absent responses are ignored.
    pub implicit_rewards: Tensor<ObjectiveBackend, 2>,
}
