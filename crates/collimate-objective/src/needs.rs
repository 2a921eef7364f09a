//! What an objective requires of its input.

/// An objective's requirements, and how its loss depends on the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The objective uses reference log-probabilities. If false they are withheld, so they cannot matter.
    pub reference: bool,
    /// Minimum number of responses per prompt.
    pub min_responses: usize,
    /// Maximum number of responses per prompt; `None` for no limit.
    pub max_responses: Option<usize>,
    /// A prompt's loss depends on the other prompts of the batch (as in AOT or KTO).
    pub couples_batch: bool,
    /// The loss detaches a term that depends on the policy (KTO's reference point), so finite differences of the loss do
    /// not match the coefficients.
    pub holds_constant: bool,
    /// The objective uses log-probabilities of responses to a different prompt (as in CCA or the KTO paper).
    ///
    /// Not supported yet: an objective that needs them is refused.
    pub mismatched_pairs: bool,
}

impl Default for Needs {
    /// A reference, at least two responses per prompt, prompts independent.
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
    /// The default, but without a reference.
    pub fn without_reference() -> Self {
        Self { reference: false, ..Self::default() }
    }
}
