//! Groups without their tokens.

use collimate_text::GroupLengths;

use crate::format::{GroupRecord, ResponseHead};

/// A group without its tokens: what planning a step needs.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupHead {
    /// Index in the data, from 0.
    pub index: usize,
    /// Line of the file, counted from 1.
    pub line: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that are images'.
    pub image_tokens: usize,
    /// Tokens that truncation removed from the prompt's start.
    pub num_prompt_cut: usize,
    /// Number of the first response among those of all groups.
    pub first_response: u64,
    /// The K responses.
    pub responses: Vec<ResponseHead>,
}

impl GroupLengths for GroupHead {
    fn line(&self) -> usize {
        self.line
    }

    fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    fn image_tokens(&self) -> usize {
        self.image_tokens
    }

    fn num_responses(&self) -> usize {
        self.responses.len()
    }

    fn response_tokens(&self, response: usize) -> usize {
        self.responses[response].tokens as usize
    }
}

/// Bytes of a group's tokens and images.
pub(crate) fn num_bytes(record: &GroupRecord, responses: &[ResponseHead]) -> usize {
    let responses = responses.iter().map(|response| response.tokens as usize).sum::<usize>();
    (record.prompt_tokens as usize + responses) * record.width as usize + record.image_bytes as usize
}

pub(crate) fn head(record: &GroupRecord, responses: Vec<ResponseHead>) -> GroupHead {
    GroupHead {
        index: record.index as usize,
        line: record.line as usize,
        prompt_tokens: record.prompt_tokens as usize,
        image_tokens: record.image_tokens as usize,
        num_prompt_cut: record.prompt_cut as usize,
        first_response: record.first_response,
        responses,
    }
}
