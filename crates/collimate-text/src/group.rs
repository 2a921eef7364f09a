//! A prompt with its K responses as token ids.

use crate::{EncodedPrompt, PlacedImage};

/// The token ids of one response.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizedResponse {
    /// Token ids, \[R\]. The last is the end-of-turn or EOS token, unless truncation removed it.
    pub ids: Vec<u32>,
    /// Scalar reward; higher is better.
    pub reward: f64,
    /// Tokens that truncation removed from the end.
    pub num_cut: usize,
}

/// The token ids of a prompt and its K responses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenizedGroup {
    /// Index in the data, from 0.
    pub index: usize,
    /// Line of the file, counted from 1.
    pub line: usize,
    /// Prompt token ids, \[P\], at least one.
    pub prompt_ids: Vec<u32>,
    /// Tokens that truncation removed from the prompt's start.
    pub num_prompt_cut: usize,
    /// The images of the prompt, in order.
    pub images: Vec<PlacedImage>,
    /// The K responses, in the file's order.
    pub responses: Vec<TokenizedResponse>,
}

impl TokenizedGroup {
    /// The prompt alone.
    pub fn prompt(&self) -> EncodedPrompt {
        EncodedPrompt { ids: self.prompt_ids.clone(), images: self.images.clone() }
    }

    /// What tells the prompt from others: its tokens and, since those of images are all the same, the hashes of its images.
    pub fn prompt_key(&self) -> Vec<u32> {
        let hashes = self.images.iter().flat_map(|placed| placed.image.hash().as_chunks().0);
        self.prompt_ids.iter().copied().chain(hashes.map(|four| u32::from_le_bytes(*four))).collect()
    }

    /// Tokens of the group with the prompt counted once, P + Σ R.
    pub fn num_tokens(&self) -> usize {
        self.prompt_ids.len() + self.responses.iter().map(|r| r.ids.len()).sum::<usize>()
    }
}

/// The lengths of a group, which are all that dividing a micro-batch needs to know of it.
pub trait GroupLengths {
    /// Line of the file, counted from 1.
    fn line(&self) -> usize;
    /// Tokens of the prompt, P.
    fn prompt_tokens(&self) -> usize;
    /// Tokens of the prompt that are images'.
    fn image_tokens(&self) -> usize;
    /// Number of responses, K.
    fn num_responses(&self) -> usize;
    /// Tokens of a response, R.
    fn response_tokens(&self, response: usize) -> usize;
}

impl GroupLengths for TokenizedGroup {
    fn line(&self) -> usize {
        self.line
    }

    fn prompt_tokens(&self) -> usize {
        self.prompt_ids.len()
    }

    fn image_tokens(&self) -> usize {
        self.images.iter().map(|placed| placed.tokens.len()).sum()
    }

    fn num_responses(&self) -> usize {
        self.responses.len()
    }

    fn response_tokens(&self, response: usize) -> usize {
        self.responses[response].ids.len()
    }
}
