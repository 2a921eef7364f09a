//! What a run says about its data without reading it again.

use collimate_data::DataFiles;
use collimate_images::AHEAD_BYTES;
use collimate_text::{GroupLengths, TokenizedGroup};
use serde::{Deserialize, Serialize};

/// Totals over all groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Prompts.
    pub num_groups: usize,
    /// Responses.
    pub num_responses: usize,
    /// Fewest responses of a prompt.
    pub least_responses: usize,
    /// Most responses of a prompt.
    pub most_responses: usize,
    /// Tokens of prompts, each counted once.
    pub prompt_tokens: u64,
    /// Tokens of prompts that are images'.
    pub image_tokens: u64,
    /// Tokens of responses.
    pub response_tokens: u64,
    /// Prompts that were truncated.
    pub cut_prompts: usize,
    /// Responses that were truncated.
    pub cut_responses: usize,
    /// Prompts whose responses have equal rewards.
    pub num_tied: usize,
    /// Tokens of the longest response with its prompt.
    pub longest: usize,
    /// Tokens of the longest group, its prompt counted once.
    pub largest: usize,
}

impl Totals {
    /// Counts a group.
    pub fn add(&mut self, group: &TokenizedGroup) {
        let responses = group.responses.len();
        self.least_responses = if self.num_groups == 0 { responses } else { self.least_responses.min(responses) };
        self.most_responses = self.most_responses.max(responses);
        self.num_groups += 1;
        self.num_responses += responses;
        self.prompt_tokens += group.prompt_ids.len() as u64;
        self.image_tokens += group.image_tokens() as u64;
        self.cut_prompts += usize::from(group.num_prompt_cut > 0);
        for response in &group.responses {
            self.response_tokens += response.ids.len() as u64;
            self.cut_responses += usize::from(response.num_cut > 0);
            self.longest = self.longest.max(group.prompt_ids.len() + response.ids.len());
        }
        self.longest = self.longest.max(group.prompt_ids.len());
        self.largest = self.largest.max(group.num_tokens());
        let first = group.responses.first().map_or(0.0, |response| response.reward);
        self.num_tied += usize::from(group.responses.iter().all(|response| response.reward == first));
    }

    /// The most bytes of pixels that are loaded before they are needed.
    pub fn ahead_bytes(&self) -> u64 {
        if self.image_tokens > 0 { AHEAD_BYTES } else { 0 }
    }

    /// Tokens of all groups, prompts counted once.
    pub fn num_tokens(&self) -> u64 {
        self.prompt_tokens + self.response_tokens
    }
}

/// What is known about the groups of a store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) totals: Totals,
    /// Lines for the log: what was found, truncated and left out, with marks in place of paths.
    pub(crate) notes: Vec<String>,
    /// Index of each file's first row.
    pub(crate) starts: Vec<usize>,
    /// Hash of all tokens and rewards, as of training data; in hexadecimal.
    pub(crate) content: String,
}

impl Facts {
    pub(crate) fn new(totals: Totals, notes: Vec<String>, files: &DataFiles, content: String) -> Self {
        let starts = files.starts().iter().map(|(start, _)| *start).collect();
        Self { totals, notes, starts, content }
    }
}

/// Adds a group's tokens and rewards to a hash; `part` tells training from held-out data.
pub(crate) fn hash_group(group: &TokenizedGroup, hasher: &mut blake3::Hasher, part: u8) {
    let mut bytes = vec![part];
    for ids in std::iter::once(&group.prompt_ids).chain(group.responses.iter().map(|response| &response.ids)) {
        bytes.extend_from_slice(&(ids.len() as u64).to_le_bytes());
        ids.iter().for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()));
    }
    group.responses.iter().for_each(|response| bytes.extend_from_slice(&response.reward.to_le_bytes()));
    // Only their content counts, not where they are.
    group.images.iter().for_each(|placed| bytes.extend_from_slice(placed.image.hash()));
    hasher.update(&bytes);
}
