//! Groups laid out as one list of tokens, without padding.

use std::ops::Range;

use crate::TokenizedGroup;

/// The tokens of one response in a [`GroupBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseSpan {
    /// Its prompt's tokens, as a range of the batch.
    pub prompt: Range<usize>,
    /// Its own tokens, as a range of the batch.
    pub tokens: Range<usize>,
    /// Index among the responses of its group, from 0.
    pub number: usize,
    /// Whether its prompt's tokens may belong to other responses of its group too, here or in another part of it.
    pub shares_prompt: bool,
}

/// Groups as one list of tokens: a prompt, its responses, the next prompt, and so on.
///
/// The positions of each response continue those of the prompt, and it may attend only to the prompt and to itself.
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
    pub groups: Vec<Vec<ResponseSpan>>,
    /// Index of each group in the data, \[B\].
    pub indices: Vec<usize>,
    /// The tokens of each group as a range of the batch, \[B\].
    pub spans: Vec<Range<usize>>,
}

impl GroupBatch {
    /// Lays out groups with each prompt stored once for its K responses.
    pub fn shared<'a>(groups: impl IntoIterator<Item = &'a TokenizedGroup>) -> Self {
        Self::parts(groups.into_iter().map(|group| (group, 0..group.responses.len())), true)
    }

    /// Lays out each response with a copy of its prompt, as K separate sequences: the plain path, for comparison.
    pub fn separate<'a>(groups: impl IntoIterator<Item = &'a TokenizedGroup>) -> Self {
        Self::parts(groups.into_iter().map(|group| (group, 0..group.responses.len())), false)
    }

    /// Lays out a range of each group's responses, with the prompt stored once (`share_prompt`) or for each response.
    pub fn parts<'a>(parts: impl IntoIterator<Item = (&'a TokenizedGroup, Range<usize>)>, share_prompt: bool) -> Self {
        let mut batch = Self::empty();
        for (group, numbers) in parts {
            let mut start = batch.tokens.len();
            let mut prompt = start..start;
            let mut responses = Vec::with_capacity(numbers.len());
            let shares_prompt = share_prompt && group.responses.len() > 1;
            for number in numbers {
                if responses.is_empty() || !share_prompt {
                    start = batch.tokens.len();
                    prompt = batch.push(&group.prompt_ids, 0);
                }
                let tokens = batch.push(&group.responses[number].ids, group.prompt_ids.len());
                responses.push(ResponseSpan { prompt: prompt.clone(), tokens, number, shares_prompt });
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

    /// Lays out prompts without responses, one span each: the start of generation.
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
    pub fn responses(&self) -> impl Iterator<Item = &ResponseSpan> {
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
        assert_eq!(batch.groups[0][1], ResponseSpan { prompt: 0..3, tokens: 5..8, number: 1, shares_prompt: true });
        assert_eq!(batch.spans, std::slice::from_ref(&(0..8)));
    }

    #[test]
    fn a_part_of_a_group_holds_its_prompt_and_those_responses() {
        let batch = GroupBatch::parts([(&group(), 1..2)], true);
        assert_eq!(batch.tokens, [10, 11, 12, 30, 31, 2]);
        let alone = ResponseSpan { prompt: 0..3, tokens: 3..6, number: 1, shares_prompt: true };
        assert_eq!(batch.groups[0], [alone]);
        assert_eq!(batch.spans, std::slice::from_ref(&(0..6)));
    }

    #[test]
    fn separate_sequences_repeat_the_prompt() {
        let batch = GroupBatch::separate([&group()]);
        assert_eq!(batch.tokens, [10, 11, 12, 20, 2, 10, 11, 12, 30, 31, 2]);
        assert_eq!(batch.spans, [0..5, 5..11]);
        assert_eq!(batch.groups[0][1], ResponseSpan { prompt: 5..8, tokens: 8..11, number: 1, shares_prompt: false });
    }
}
