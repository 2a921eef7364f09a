//! A prompt with its K scored responses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The speaker: `system`, `user`, `assistant`, or another role the chat template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// Plain text, or a conversation for the chat template to render.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// Plain text, encoded with the tokenizer's own special tokens.
    Text(String),
    /// A conversation, rendered by the chat template with its generation prompt.
    Messages(Vec<Message>),
}

impl Prompt {
    /// Number of characters, summed over messages.
    pub fn num_chars(&self) -> usize {
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Messages(messages) => messages.iter().map(|message| message.content.chars().count()).sum(),
        }
    }
}

/// A response to a prompt, with its reward.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The response's text, without end-of-turn tokens.
    pub content: String,
    /// Reward; finite, higher is better.
    pub reward: f64,
    /// Further scores by name, such as ratings of aspects.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<String, f64>,
    /// The tokens that a model drew, with those that ended it, if the response was sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_ids: Option<Vec<u32>>,
}

/// A prompt and its K scored responses, with their location.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptGroup {
    /// Position among the rows of all files, from 0.
    pub index: usize,
    /// Line in the file, from 1.
    pub line: usize,
    /// The prompt.
    pub prompt: Prompt,
    /// The K responses, in the file's order.
    pub responses: Vec<Response>,
}
