//! A prompt with its K scored responses.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Message;
use collimate_messages::is_blank;

/// Plain text, or a conversation for the chat template to render.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// Plain text, encoded with the tokenizer's own special tokens.
    Text(String),
    /// A conversation, rendered by the chat template with its generation prompt.
    Messages(Vec<Message>),
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Prompt {
    /// Makes paths of images those of files beside a file of data.
    pub(crate) fn place_images(&mut self, data: &Path) {
        if let (Self::Messages(messages), Some(folder)) = (self, data.parent()) {
            messages.iter_mut().for_each(|message| message.place_images(folder));
        }
    }

    /// Makes paths of images those that they are from a folder.
    pub fn unplace_images(&mut self, folder: &Path) {
        if let Self::Messages(messages) = self {
            messages.iter_mut().for_each(|message| message.unplace_images(folder));
        }
    }

    /// Number of characters, summed over messages.
    pub fn num_chars(&self) -> usize {
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Messages(messages) => messages.iter().map(|message| message.content.chars().count()).sum(),
        }
    }
}

/// What a chat template is given besides the messages of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ChatInputs {
    /// The tools that the assistant may call, as JSON schemas.
    pub tools: Option<Vec<Value>>,
    /// Further variables by name, such as `enable_thinking`: the row's `chat_template_kwargs`.
    pub kwargs: Map<String, Value>,
}

/// A response to a prompt, with its reward.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Response {
    /// The turns that it begins with if it is several: calls with their results, say. They are scored with it.
    pub before: Vec<Message>,
    /// The text of its last turn, without end-of-turn tokens.
    pub content: String,
    /// Reward; finite, higher is better.
    pub reward: f64,
    /// Further scores by name, such as ratings of aspects.
    pub scores: BTreeMap<String, f64>,
    /// The tokens that a model drew, with those that ended it, if the response was sampled.
    pub token_ids: Option<Vec<u32>>,
    /// What else its last turn has, as [`Message::fields`].
    pub fields: Map<String, Value>,
}

impl Response {
    /// The assistant's last turn.
    pub fn message(&self) -> Message {
        Message { role: "assistant".to_owned(), content: self.content.clone(), fields: self.fields.clone() }
    }

    /// All its turns.
    pub fn messages(&self) -> Vec<Message> {
        self.before.iter().cloned().chain([self.message()]).collect()
    }

    /// Number of characters, summed over its turns.
    pub fn num_chars(&self) -> usize {
        let before = self.before.iter().map(|message| message.content.chars().count()).sum::<usize>();
        before + self.content.chars().count()
    }

    /// What two responses with the same text have in common.
    pub fn text(&self) -> (&[Message], &str, &Map<String, Value>) {
        (&self.before, &self.content, &self.fields)
    }

    /// The response as a row of this project's layout holds it: with `content` if it is only text, else with `message` or
    /// `messages`.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let mut json = Map::new();
        match (self.before.is_empty(), self.fields.is_empty()) {
            (true, true) => json.insert("content".to_owned(), self.content.as_str().into()),
            (true, false) => json.insert("message".to_owned(), self.message().to_json().into()),
            (false, _) => {
                let turns = self.messages().into_iter().map(|message| message.to_json().into()).collect();
                json.insert("messages".to_owned(), Value::Array(turns))
            }
        };
        json.insert("reward".to_owned(), self.reward.into());
        if !self.scores.is_empty() {
            let scores = self.scores.iter().map(|(name, score)| (name.clone(), Value::from(*score)));
            json.insert("scores".to_owned(), Value::Object(scores.collect()));
        }
        if let Some(ids) = &self.token_ids {
            json.insert("token_ids".to_owned(), ids.as_slice().into());
        }
        json
    }

    /// Whether it says nothing: no text, and no call or reasoning instead.
    pub fn is_blank(&self) -> bool {
        is_blank(&self.content, &self.fields)
    }
}

/// A prompt and its K scored responses, with their location.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptGroup {
    /// Position among the rows of all files, from 0.
    pub index: usize,
    /// Line in the file, from 1.
    pub line: usize,
    /// The prompt.
    pub prompt: Prompt,
    /// The K responses, in the file's order; of those that share the highest reward, the one that a label names is the
    /// first.
    pub responses: Vec<Response>,
    /// What the chat template is given besides the prompt's messages.
    pub chat: ChatInputs,
    /// Index of the response that the row labels the best one, if it does.
    pub chosen: Option<usize>,
}
