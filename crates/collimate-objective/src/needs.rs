//! What an objective requires of its input.

/// Limit on the numbers of a batch, one for each response or, for objectives that hold them, for each pair: B · K or B · K²
/// with K that of the widest group. Without a limit a file of a few kilobytes could exhaust memory. One prompt with 2,048
/// responses fits in pairs.
pub(crate) const MAX_NUMBERS: usize = 1 << 22;

/// An objective's requirements, and how its loss depends on the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The objective uses reference log-probabilities. If false they are withheld, so they cannot matter.
    pub reference: bool,
    /// Minimum number of responses per prompt.
    pub min_responses: usize,
    /// Maximum number of responses per prompt; `None` for no limit.
    pub max_responses: Option<usize>,
    /// The objective holds a number for every two of a prompt's responses, K², not only one for each.
    pub pairs: bool,
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
            pairs: false,
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

    /// Most responses that a prompt may have where up to `num_groups` prompts are a batch. Rows with more are refused when
    /// they are read.
    pub fn most_responses(&self, num_groups: usize) -> usize {
        // Prompts that are independent need not be in one batch.
        let numbers = MAX_NUMBERS / if self.couples_batch { num_groups.max(1) } else { 1 };
        let most = if self.pairs { numbers.isqrt() } else { numbers };
        self.max_responses.map_or(most, |max| max.min(most))
    }

    /// Numbers of a batch whose widest group has `width` responses.
    pub(crate) fn numbers(&self, num_groups: usize, width: usize) -> usize {
        num_groups.saturating_mul(width).saturating_mul(if self.pairs { width } else { 1 })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::one_each(Needs::default(), 64, 1 << 22)]
    #[case::pairs(Needs { pairs: true, ..Needs::default() }, 64, 2048)]
    #[case::coupled(Needs { couples_batch: true, ..Needs::default() }, 64, 1 << 16)]
    #[case::coupled_pairs(Needs { couples_batch: true, pairs: true, ..Needs::default() }, 64, 256)]
    #[case::its_own(Needs { max_responses: Some(7), pairs: true, ..Needs::default() }, 64, 7)]
    fn a_prompt_has_as_many_responses_as_a_batch_has_numbers(
        #[case] needs: Needs,
        #[case] num_groups: usize,
        #[case] most: usize,
    ) {
        assert_eq!(needs.most_responses(num_groups), most);
        assert!(needs.numbers(if needs.couples_batch { num_groups } else { 1 }, most) <= MAX_NUMBERS);
    }
}
