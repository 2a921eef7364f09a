//! What an objective requires of its input, and of memory.

/// Limit on the numbers of a batch, one for each response or, for objectives that hold them, for each pair: B · K or B · K²
/// with K that of the widest group. Without a limit a file of a few kilobytes could exhaust memory. One prompt with 2,048
/// responses fits in pairs.
pub(crate) const MAX_NUMBERS: usize = 1 << 22;

/// Numbers of several groups that are evaluated at once, unless they depend on each other.
pub(crate) const PART_NUMBERS: usize = 1 << 17;

/// An objective's requirements, and how its loss depends on the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// The objective uses reference log-probabilities. If false they are withheld, so they cannot matter.
    pub reference: bool,
    /// Minimum number of responses per prompt.
    pub min_responses: usize,
    /// Maximum number of responses per prompt; `None` for no limit.
    pub max_responses: Option<usize>,
    /// The objective holds numbers for every two of a prompt's responses, K², not only some for each. Memory is set aside for
    /// them, and prompts have fewer responses. True unless an objective says otherwise ([`Needs::without_pairs`]).
    pub pairs: bool,
    /// A prompt's loss depends on the other prompts of the batch (as in AOT or KTO).
    pub couples_batch: bool,
    /// The loss detaches a term that depends on the policy (KTO's reference point), so finite differences of the loss do
    /// not match the coefficients.
    pub holds_constant: bool,
    /// The objective compares each response under its own prompt with the same response under another one (as in CCA).
    ///
    /// A group of the data, of any size, is then scored twice, and the objective sees 2K log-probabilities: the K responses
    /// under their prompt, with the reward 1, and again under the next prompt of the micro-batch, the last one's being the
    /// first's, with the reward 0; or 1, if that is the same prompt. See
    /// [`Objective::unconditional_rows`](crate::Objective::unconditional_rows). [`Needs::min_responses`] counts these.
    pub mismatched_pairs: bool,
    /// The objective sees mismatched pairs only as a point of reference (as in KTO): groups keep their K responses and their
    /// rewards, and [`ScoredGroups::mismatched_log_ratios`](crate::ScoredGroups::mismatched_log_ratios) has the log-ratios under
    /// the other prompts, through which no gradient flows. Of no meaning without [`Needs::mismatched_pairs`].
    pub mismatched_apart: bool,
}

impl Default for Needs {
    /// A reference, at least two responses per prompt, numbers for pairs of responses, prompts independent.
    fn default() -> Self {
        Self {
            reference: true,
            min_responses: 2,
            max_responses: None,
            pairs: true,
            couples_batch: false,
            holds_constant: false,
            mismatched_pairs: false,
            mismatched_apart: false,
        }
    }
}

/// Float64 tensors `[B, K, K]` of an objective that holds pairs: with room for the intermediate results of a few operations on all pairs and
/// for those of their gradients.
const PAIR_TENSORS: usize = 16;
/// Float64 tensors `[B, K]` of any objective, its input and the intermediate results of its gradient included.
const RESPONSE_TENSORS: usize = 64;
/// Bytes of a response's numbers on the host, in the input, the output and the figures that are kept until the step ends.
const HOST_BYTES: u64 = 256;

impl Needs {
    /// The same for an objective that holds nothing for pairs of responses.
    #[must_use]
    pub fn without_pairs(self) -> Self {
        Self { pairs: false, ..self }
    }

    /// Most bytes that [`evaluate`](crate::evaluate) holds for `num_groups` prompts with up to `num_responses` responses.
    pub fn working_bytes(&self, num_groups: usize, num_responses: usize) -> u64 {
        let all = self.numbers(num_groups, num_responses);
        let one = self.numbers(1, num_responses);
        let at_once = if self.couples_batch { all } else { all.min(one.max(PART_NUMBERS)) };
        let pairs = if self.pairs { PAIR_TENSORS.saturating_mul(at_once) } else { 0 };
        let responses = if self.pairs { at_once / num_responses.max(1) } else { at_once };
        let tensors = pairs.saturating_add(RESPONSE_TENSORS.saturating_mul(responses)) as u64;
        let host = (num_groups as u64).saturating_mul(num_responses as u64).saturating_mul(HOST_BYTES);
        tensors.saturating_mul(size_of::<f64>() as u64).saturating_add(host)
    }

    /// Log-probabilities that the objective sees of a group of so many responses.
    pub fn num_columns(&self, num_responses: usize) -> usize {
        if self.mismatched_pairs { num_responses.saturating_mul(2) } else { num_responses }
    }

    /// Responses that the loss is of, among the log-probabilities that are given for a group.
    pub(crate) fn num_own(&self, columns: usize) -> usize {
        if self.mismatched_pairs && self.mismatched_apart { columns / 2 } else { columns }
    }

    /// Least responses of a group in the data.
    pub fn min_in_data(&self) -> usize {
        if self.mismatched_pairs { self.min_responses.div_ceil(2) } else { self.min_responses }
    }

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
        let most = self.max_responses.map_or(most, |max| max.min(most));
        if self.mismatched_pairs { most / 2 } else { most }
    }

    /// Most responses that a [`StreamedEvaluation`](crate::StreamedEvaluation) of `num_responses` in all, the widest prompt's
    /// `widest`, holds.
    pub fn most_waiting(&self, num_responses: u64, widest: usize) -> u64 {
        if self.couples_batch { num_responses } else { num_responses.min((widest.max(PART_NUMBERS)) as u64) }
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
    #[case::one_each(Needs::default().without_pairs(), 64, 1 << 22)]
    #[case::pairs(Needs::default(), 64, 2048)]
    #[case::coupled(Needs { couples_batch: true, ..Needs::default().without_pairs() }, 64, 1 << 16)]
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
    #[test]
    fn memory_is_counted_for_what_is_held_at_once() {
        let numbers = |needs: Needs, groups, responses| needs.working_bytes(groups, responses) / 8;
        let single = Needs::default().without_pairs();
        // 64 tensors, and 32 numbers on the host.
        assert_eq!(numbers(single, 4, 100), 400 * (64 + 32));
        assert_eq!(numbers(Needs::default(), 4, 100), 400 * (16 * 100 + 64 + 32));
        // In parts, but for those that depend on each other.
        let many = 1 << 20;
        assert_eq!(numbers(single, many, 2), PART_NUMBERS as u64 * 64 + 2 * many as u64 * 32);
        let coupled = Needs { couples_batch: true, ..single };
        assert_eq!(numbers(coupled, many, 2), 2 * many as u64 * (64 + 32));
        // One prompt is never divided.
        assert_eq!(numbers(single, 2, 1 << 20), (1 << 20) * 64 + (1 << 21) * 32);
        assert_eq!(Needs::default().working_bytes(usize::MAX, usize::MAX), u64::MAX);
        let (few, all) = (PART_NUMBERS as u64, 2 * many as u64);
        assert_eq!(
            (single.most_waiting(all, 2), coupled.most_waiting(all, 2), single.most_waiting(7, 2)),
            (few, all, 7)
        );
    }
}
