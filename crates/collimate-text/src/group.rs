//! A prompt with its K responses as token ids.

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
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizedGroup {
    /// Index in the data, from 0.
    pub index: usize,
    /// Line of the file, counted from 1.
    pub line: usize,
    /// Prompt token ids, \[P\], at least one.
    pub prompt_ids: Vec<u32>,
    /// Tokens that truncation removed from the prompt's start.
    pub num_prompt_cut: usize,
    /// The K responses, in the file's order.
    pub responses: Vec<TokenizedResponse>,
}

impl TokenizedGroup {
    /// Tokens of the group with the prompt counted once, P + Σ R.
    pub fn num_tokens(&self) -> usize {
        self.prompt_ids.len() + self.responses.iter().map(|r| r.ids.len()).sum::<usize>()
    }
}
