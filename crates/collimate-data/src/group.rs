//! A prompt with its K scored responses.

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
