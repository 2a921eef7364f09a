//! Counts of what tokenizing a data set kept, truncated and skipped.

use std::collections::{BTreeMap, HashSet};

use crate::{TextChecks, TokenizedGroup, UnusableReason};

/// Counts of tokens and groups that tokenization kept, cut and skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizeCounts {
    /// Groups kept.
    pub groups: usize,
    /// Responses of the groups kept.
    pub responses: usize,
    /// Prompt tokens kept, each prompt counted once.
    pub prompt_tokens: usize,
    /// Response tokens kept.
    pub response_tokens: usize,
    /// Prompts that were truncated.
    pub cut_prompts: usize,
    /// Tokens cut from prompts.
    pub cut_prompt_tokens: usize,
    /// Responses that were truncated.
    pub cut_responses: usize,
    /// Tokens cut from responses.
    pub cut_response_tokens: usize,
    /// Responses with the same tokens as an earlier response of their group.
    pub identical_responses: usize,
    /// Groups whose responses all have the same tokens: comparing them teaches nothing.
    pub identical_groups: usize,
    /// Whether ids say what the texts say.
    pub texts: TextChecks,
    /// Groups skipped, by [`UnusableReason::kind`].
    pub skipped: BTreeMap<&'static str, usize>,
}

impl TokenizeCounts {
    /// Counts a group that is kept.
    pub fn keep(&mut self, group: &TokenizedGroup, checks: TextChecks) {
        self.texts.merge(checks);
        self.groups += 1;
        self.responses += group.responses.len();
        self.prompt_tokens += group.prompt_ids.len();
        self.cut_prompts += usize::from(group.num_prompt_cut > 0);
        self.cut_prompt_tokens += group.num_prompt_cut;
        for response in &group.responses {
            self.response_tokens += response.ids.len();
            self.cut_responses += usize::from(response.num_cut > 0);
            self.cut_response_tokens += response.num_cut;
        }
        let distinct: HashSet<&[u32]> = group.responses.iter().map(|response| response.ids.as_slice()).collect();
        self.identical_responses += group.responses.len() - distinct.len();
        self.identical_groups += usize::from(group.responses.len() > 1 && distinct.len() == 1);
    }

    /// Counts a group that is skipped.
    pub fn skip(&mut self, reason: &UnusableReason) {
        *self.skipped.entry(reason.kind()).or_default() += 1;
    }

    /// Groups skipped for any reason.
    pub fn num_skipped(&self) -> usize {
        self.skipped.values().sum()
    }
}
