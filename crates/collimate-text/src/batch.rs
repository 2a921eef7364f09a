//! Several groups as one list of tokens without padding, the prompt of a group once.

use std::ops::Range;

use crate::TokenizedGroup;

/// Where one response stands in a [`GroupBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedResponse {
    /// Tokens of the prompt that it answers, as a range of the batch.
    pub prompt: Range<usize>,
    /// Its own tokens, as a range of the batch.
    pub tokens: Range<usize>,
    /// Its number in its group, from 0.
    pub number: usize,
}

/// A pack of groups: prompt, then its responses, then the next group; no padding.
///
/// Each response's positions continue the prompt's, and it may attend to the prompt and to itself only.
///
/// # Shapes
/// `tokens` and `positions` are \[N\], N = Σ over groups of P + Σ R.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBatch {
    /// Token ids, \[N\].
    pub tokens: Vec<u32>,
    /// Position of each token in its own sequence (prompt + one response), \[N\].
    pub positions: Vec<u32>,
    /// The responses of each group, B lists of K.
    pub groups: Vec<Vec<PackedResponse>>,
    /// Each group's place in the data, \[B\].
    pub indices: Vec<usize>,
    /// The tokens of each group as a range of the batch, \[B\].
    pub spans: Vec<Range<usize>>,
}

impl GroupBatch {
    /// Packs groups with the prompt of each stored once.
    pub fn shared<'a>(groups: impl IntoIterator<Item = &'a TokenizedGroup>) -> Self {
        Self::parts(groups.into_iter().map(|group| (group, 0..group.responses.len())), true)
    }

    /// Packs each response with a copy of its prompt, as K separate sequences: the plain path, for comparison.
    pub fn separate<'a>(groups: impl IntoIterator<Item = &'a TokenizedGroup>) -> Self {
        Self::parts(groups.into_iter().map(|group| (group, 0..group.responses.len())), false)
    }

    /// Packs some responses of each group, given by their range; with the prompt stored once for them, or for each.
    pub fn parts<'a>(parts: impl IntoIterator<Item = (&'a TokenizedGroup, Range<usize>)>, share_prompt: bool) -> Self {
        let mut batch = Self::empty();
        for (group, numbers) in parts {
            let mut start = batch.tokens.len();
            let mut prompt = start..start;
            let mut responses = Vec::with_capacity(numbers.len());
            for number in numbers {
                if responses.is_empty() || !share_prompt {
                    start = batch.tokens.len();
                    prompt = batch.push(&group.prompt_ids, 0);
                }
                let tokens = batch.push(&group.responses[number].ids, group.prompt_ids.len());
                responses.push(PackedResponse { prompt: prompt.clone(), tokens, number });
                if !share_prompt {
                    batch.spans.push(start..batch.tokens.len());
                }
            }
            if share_prompt && !responses.is_empty() {
                batch.spans.push(start..batch.tokens.len());
            }
            batch.groups.push(responses);
            batch.indices.push(group.index);
        }
        batch
    }

    /// Packs prompts alone, each its own span with no responses: what generation starts from.
    pub fn prompts(prompts: &[Vec<u32>]) -> Self {
        let mut batch = Self::empty();
        for ids in prompts {
            let span = batch.push(ids, 0);
            batch.spans.push(span);
        }
        batch
    }

    /// Number of tokens, N.
    pub fn num_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Number of responses over all groups.
    pub fn num_responses(&self) -> usize {
        self.groups.iter().map(Vec::len).sum()
    }

    /// The responses of all groups, group by group.
    pub fn responses(&self) -> impl Iterator<Item = &PackedResponse> {
        self.groups.iter().flatten()
    }

    fn empty() -> Self {
        Self { tokens: Vec::new(), positions: Vec::new(), groups: Vec::new(), indices: Vec::new(), spans: Vec::new() }
    }

    fn push(&mut self, ids: &[u32], first_position: usize) -> Range<usize> {
        let start = self.tokens.len();
        self.tokens.extend_from_slice(ids);
        self.positions.extend((first_position..first_position + ids.len()).map(|p| p as u32));
        start..self.tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizedResponse;

    fn group() -> TokenizedGroup {
        let response = |ids: &[u32]| TokenizedResponse { ids: ids.to_vec(), reward: 0.0, num_cut: 0 };
        TokenizedGroup {
            index: 0,
            line: 1,
            prompt_ids: vec![10, 11, 12],
            num_prompt_cut: 0,
            responses: vec![response(&[20, 2]), response(&[30, 31, 2])],
        }
    }

    #[test]
    fn the_prompt_is_stored_once_and_responses_continue_its_positions() {
        let batch = GroupBatch::shared([&group()]);
        assert_eq!(batch.tokens, [10, 11, 12, 20, 2, 30, 31, 2]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 3, 4, 5]);
        assert_eq!(batch.groups[0][1], PackedResponse { prompt: 0..3, tokens: 5..8, number: 1 });
        assert_eq!(batch.spans, std::slice::from_ref(&(0..8)));
    }

    #[test]
    fn a_part_of_a_group_holds_its_prompt_and_those_responses() {
        let batch = GroupBatch::parts([(&group(), 1..2)], true);
        assert_eq!(batch.tokens, [10, 11, 12, 30, 31, 2]);
        assert_eq!(batch.groups[0], [PackedResponse { prompt: 0..3, tokens: 3..6, number: 1 }]);
        assert_eq!(batch.spans, std::slice::from_ref(&(0..6)));
    }

    #[test]
    fn separate_sequences_repeat_the_prompt() {
        let batch = GroupBatch::separate([&group()]);
        assert_eq!(batch.tokens, [10, 11, 12, 20, 2, 10, 11, 12, 30, 31, 2]);
        assert_eq!(batch.spans, [0..5, 5..11]);
        assert_eq!(batch.groups[0][1], PackedResponse { prompt: 5..8, tokens: 8..11, number: 1 });
    }
}
