//! A prompt with its K scored responses, as text and as token ids.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, or what the chat template knows.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What the responses answer: plain text, or a conversation that the chat template renders.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// Plain text, encoded with the tokenizer's own special tokens.
    Text(String),
    /// A conversation, rendered by the chat template with its generation prompt.
    Messages(Vec<Message>),
}

impl Prompt {
    /// Length of the text in characters, that of all messages together.
    pub fn num_chars(&self) -> usize {
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Messages(messages) => messages.iter().map(|message| message.content.chars().count()).sum(),
        }
    }
}

/// One response to a prompt, with its reward (higher is better, always).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The response's text, without end-of-turn tokens.
    pub content: String,
    /// Scalar reward; finite; higher is better.
    pub reward: f64,
    /// Further scores by name (ratings of aspects), where the data has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
}

/// A prompt and its K scored responses, and where in the file they stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptGroup {
    /// Position among the rows of all files of the data, counted from 0.
    pub index: usize,
    /// Line of the file, counted from 1.
    pub line: usize,
    /// What is answered.
    pub prompt: Prompt,
    /// The K responses, in the file's order.
    pub responses: Vec<Response>,
}

/// The token ids of one response, its EOS included.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizedResponse {
    /// Token ids, \[R\], ended by the end-of-turn or EOS token unless it was cut.
    pub ids: Vec<u32>,
    /// Scalar reward; higher is better.
    pub reward: f64,
    /// How many tokens truncation removed from the end.
    pub num_cut: usize,
}

/// The token ids of a prompt and its K responses.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizedGroup {
    /// Position in the data, counted from 0.
    pub index: usize,
    /// Line of the file, counted from 1.
    pub line: usize,
    /// Prompt token ids, \[P\], at least one.
    pub prompt_ids: Vec<u32>,
    /// How many tokens truncation removed from the prompt's start.
    pub num_prompt_cut: usize,
    /// The K responses, in the file's order.
    pub responses: Vec<TokenizedResponse>,
}

impl TokenizedGroup {
    /// All tokens of the group with the prompt counted once: P + Σ R.
    pub fn num_tokens(&self) -> usize {
        self.prompt_ids.len() + self.responses.iter().map(|r| r.ids.len()).sum::<usize>()
    }
}
