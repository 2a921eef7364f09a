//! The variables of a template, as transformers' `apply_chat_template` gives them.

use std::collections::BTreeMap;

use collimate_data::{ChatInputs, Message};
use minijinja::Value;
use serde_json::{Map, Value as Json};

use crate::budget;

/// Names under which a message's reasoning is known. Templates read the first, some the last.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// What a run changes about every conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatDefaults {
    /// Put before conversations that have no system turn.
    pub system_prompt: Option<String>,
    /// Variables of the template, for conversations that do not set them.
    pub kwargs: Map<String, Json>,
}

impl ChatDefaults {
    /// The messages with the system prompt before them, if they have no system turn.
    pub(crate) fn with_system(&self, messages: &[Message]) -> Vec<Message> {
        let has_system = messages.iter().any(|message| message.role == "system");
        let system = self.system_prompt.as_ref().filter(|_| !has_system).map(|text| Message::new("system", text));
        system.into_iter().chain(messages.iter().cloned()).collect()
    }
}

/// The variables of a rendering, and the bytes of what it is given.
pub(crate) struct Variables {
    pub(crate) context: BTreeMap<String, Value>,
    pub(crate) num_bytes: usize,
}

impl Variables {
    pub(crate) fn new(
        messages: &[Message],
        inputs: &ChatInputs,
        defaults: &ChatDefaults,
        special_tokens: &BTreeMap<String, String>,
    ) -> Self {
        let mut context: BTreeMap<String, Value> = BTreeMap::new();
        let mut num_bytes = 0_usize;
        for (name, text) in special_tokens {
            num_bytes += text.len();
            context.insert(name.clone(), Value::from(text.as_str()));
        }
        context.insert("documents".to_owned(), Value::from(()));
        let tools = inputs.tools.as_ref().map(|tools| Json::Array(tools.clone())).unwrap_or_default();
        num_bytes += json_bytes(&tools);
        context.insert("tools".to_owned(), Value::from_serialize(tools));
        for (name, value) in defaults.kwargs.iter().chain(&inputs.kwargs) {
            num_bytes += name.len() + json_bytes(value);
            context.insert(name.clone(), Value::from_serialize(value));
        }
        let messages: Vec<Map<String, Json>> = messages.iter().map(plain).collect();
        for message in &messages {
            num_bytes += budget::MESSAGE_BYTES;
            num_bytes += message.iter().map(|(name, value)| name.len() + json_bytes(value)).sum::<usize>();
        }
        context.insert("messages".to_owned(), Value::from_serialize(messages));
        Self { context, num_bytes }
    }
}

/// A message as a template sees it: without null fields, and its reasoning under every name.
fn plain(message: &Message) -> Map<String, Json> {
    let json = message.to_json().into_iter().filter(|(_, value)| !value.is_null());
    let json: Map<String, Json> = json.collect();
    let order = ["reasoning_content", "thinking", "reasoning"];
    let Some(reasoning) = order.iter().find_map(|name| json.get(*name)).cloned() else { return json };
    let mut all = Map::new();
    all.insert("thinking".to_owned(), reasoning.clone());
    all.extend(json);
    all.insert("reasoning_content".to_owned(), reasoning);
    all
}

/// Bytes of a conversation, counted before it is copied for the template.
pub(crate) fn num_bytes(messages: &[Message], inputs: &ChatInputs) -> usize {
    let fields = |fields: &Map<String, Json>| fields.values().map(json_bytes).sum::<usize>();
    let messages = messages.iter().map(|message| message.content.len() + fields(&message.fields));
    messages.sum::<usize>() + inputs.tools.iter().flatten().map(json_bytes).sum::<usize>() + fields(&inputs.kwargs)
}

/// Bytes of the text in a value, and a few for each of its parts.
fn json_bytes(value: &Json) -> usize {
    const PART: usize = 16;
    PART + match value {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(json_bytes).sum(),
        Json::Object(fields) => fields.iter().map(|(name, value)| name.len() + json_bytes(value)).sum(),
        _ => 0,
    }
}

/// What a conversation has that a template might leave out, and which text of the template would show that it reads it.
pub(crate) fn wishes(messages: &[Message], inputs: &ChatInputs) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut wishes = Vec::new();
    if inputs.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
        wishes.push(("tools", vec!["tools"]));
    }
    let given = |name: &str| messages.iter().any(|message| message.fields.get(name).is_some_and(is_something));
    for name in ["tool_calls", "function_call"].into_iter().filter(|name| given(name)) {
        wishes.push((name, vec![name]));
    }
    for name in REASONING.into_iter().filter(|name| given(name)) {
        wishes.push((name, vec!["reasoning_content", "thinking", name]));
    }
    wishes
}

/// The conversation without a field that [`wishes`] names.
pub(crate) fn without(messages: &[Message], inputs: &ChatInputs, name: &str) -> (Vec<Message>, ChatInputs) {
    let (mut messages, mut inputs) = (messages.to_vec(), inputs.clone());
    messages.iter_mut().for_each(|message| _ = message.fields.shift_remove(name));
    if name == "tools" {
        inputs.tools = None;
    }
    (messages, inputs)
}

fn is_something(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}
