//! Conversations: `messages` and ms-swift's additions, ShareGPT's `conversations`, UltraInteract's `trajectory`.

use serde_json::{Map, Value, json};

use super::conversation;
use super::kto::single;
use super::node::{Node, RowError};
use super::preference::UNSCORED;
use super::raw::{RawGroup, Reply};
use super::spec::{LayoutSpec, Numbers, has};
use crate::{Message, Prompt};

pub(super) static ULTRA_INTERACT: LayoutSpec = LayoutSpec {
    name: "ultrainteract",
    fields: "trajectory, chosen, rejected",
    prompt: "`trajectory`: `from` and `value` as messages",
    responses: "`chosen`, `rejected`",
    rewards: "1 and 0",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["trajectory", "chosen", "rejected"]),
    parse: |row| parse(row, "trajectory"),
};

pub(super) static SHAREGPT: LayoutSpec = LayoutSpec {
    name: "sharegpt",
    fields: "conversations[].from, conversations[].value; for preferences also chosen, rejected, or a label",
    prompt: "`system` and `conversations`, without its last turn if that is the response; a label makes rows with the same \
             prompt one group",
    responses: "`chosen`, `rejected`; else the last turn of `conversations`",
    rewards: "1 and 0; `label` or `kto_tag`: true 1, false 0; else none: one response, to be imitated",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["conversations"]),
    parse: |row| parse(row, "conversations"),
};

pub(super) static MESSAGES: LayoutSpec = LayoutSpec {
    name: "messages",
    fields: "messages; for preferences also rejected_response or rejected_messages, or chosen and rejected, or a label",
    prompt: "`system` and `messages`, without its last message if that is the response; a label makes rows with the same \
             prompt one group",
    responses: "the last of `messages` and `rejected_response` or the last of `rejected_messages`; or `chosen`, `rejected`; \
                or only the last of `messages`",
    rewards: "1 and 0; `label` or `kto_tag`: true 1, false 0; else none: one response, to be imitated",
    numbers: Numbers::Scores,
    reads: &[],
    matches: is_messages,
    parse: |row| parse(row, "messages"),
};

/// `messages` beside whole conversations or a prompt of their own are only a copy of them.
fn is_messages(row: &Map<String, Value>) -> bool {
    let speaker = |message: &Value| message.get("role").or_else(|| message.get("from")).cloned();
    let is_reply = |turns: &Vec<Value>| {
        turns.first().and_then(speaker).is_some_and(|speaker| matches!(speaker.as_str(), Some("assistant" | "gpt")))
    };
    let is_whole = |chosen: &Value| chosen.as_array().is_some_and(|turns| !is_reply(turns));
    let is_copy = row.get("chosen").is_some_and(|chosen| row.contains_key("prompt") || is_whole(chosen));
    let is_prompt = has(row, &["completion"]) || has(row, &["completions"]);
    row.contains_key("messages") && !is_copy && !is_prompt
}

fn parse(row: &Node, key: &str) -> Result<RawGroup, RowError> {
    let node = row.require(key, "a list of messages")?;
    let mut messages = turns(&node)?;
    if row.get("chosen").is_some() {
        return pair(row, &node, messages);
    }
    if let Some(rejected) = row.get("rejected_messages") {
        return whole(&node, messages, &rejected);
    }
    let last = messages.pop().ok_or_else(|| node.error("at least one message"))?;
    if last.role != "assistant" {
        return Err(ends_with(&node, "the assistant's message, the response", &last));
    }
    if messages.is_empty() {
        return Err(node.error("a message before the assistant's"));
    }
    let prompt = Prompt::Messages(messages);
    match row.get("rejected_response") {
        Some(rejected) => {
            let other = response(&rejected)?;
            Ok(RawGroup::pair(prompt, [(last.into(), &node), (other, &rejected)], "messages 1, rejected_response 0"))
        }
        None => single(prompt, last, &node, row),
    }
}

/// The conversation is the prompt of `chosen` and `rejected`.
fn pair(row: &Node, node: &Node, prompt: Vec<Message>) -> Result<RawGroup, RowError> {
    let chosen = row.require("chosen", "a string or a message")?;
    let rejected = row.require("rejected", "a string or a message")?;
    let [chosen_reply, rejected_reply] = [response(&chosen)?, response(&rejected)?];
    match prompt.last() {
        None => return Err(node.error("at least one message")),
        Some(last) if last.role == "assistant" => {
            return Err(ends_with(node, "a user's message, since the responses are \"chosen\" and \"rejected\"", last));
        }
        Some(_) => {}
    }
    let prompt = Prompt::Messages(prompt);
    Ok(RawGroup::pair(prompt, [(chosen_reply, &chosen), (rejected_reply, &rejected)], UNSCORED))
}

/// Two whole conversations, which begin with the prompt.
fn whole(node: &Node, messages: Vec<Message>, rejected: &Node) -> Result<RawGroup, RowError> {
    let others = turns(rejected)?;
    let nodes = [node.clone(), rejected.clone()];
    let split = conversation::split_messages(None, vec![messages, others], &nodes)?;
    let [chosen, rejected] = split.replies.try_into().unwrap_or_default();
    let pair = [(chosen, &nodes[0]), (rejected, &nodes[1])];
    Ok(RawGroup::pair(split.prompt, pair, "messages 1, rejected_messages 0"))
}

/// A response: a string, the assistant's message, or a list of messages that the assistant begins and ends.
pub(super) fn response(node: &Node) -> Result<Reply, RowError> {
    let messages = match node.value {
        Value::String(_) => return node.reply_text().map(Reply::from),
        Value::Object(_) => vec![turn(node)?],
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => turns(node)?,
        _ => return Err(node.error("a string")),
    };
    match messages.as_slice() {
        [only] if only.role != "assistant" => Err(node.error("the assistant's message")),
        _ => conversation::reply(messages, 0, node),
    }
}

/// A list of messages with `role` and `content`, or with `from` and `value`.
fn turns(node: &Node) -> Result<Vec<Message>, RowError> {
    match node.items("a list of messages")?.as_slice() {
        items if items.iter().all(|item| item.value.is_object()) => items.iter().map(turn).collect(),
        _ => node.messages(),
    }
}

/// A message with `role` and `content`, or with `from` and `value`.
fn turn(node: &Node) -> Result<Message, RowError> {
    if node.get("from").is_none() {
        return match node.get("role").and_then(|role| role.value.as_str()) {
            Some("tool_call" | "function_call") => call(node, &node.require("content", CALL)?),
            _ => node.message().map(|message| match message.role.as_str() {
                "tool_response" | "observation" => Message { role: "tool".to_owned(), ..message },
                _ => message,
            }),
        };
    }
    let from = node.require("from", "a speaker")?;
    let role = match from.text()?.as_str() {
        "human" | "user" | "prompter" => "user",
        "gpt" | "assistant" | "chatgpt" | "model" | "bot" | "bing" | "bard" => "assistant",
        "system" => "system",
        "observation" | "tool" | "tool_response" => "tool",
        "function_call" | "tool_call" => return call(node, &node.require("value", CALL)?),
        _ => return Err(from.error("\"human\", \"gpt\", \"system\", \"function_call\" or \"observation\"")),
    };
    let value = node.require("value", "a string")?.text()?;
    let mut fields = Map::new();
    fields.insert("role".to_owned(), role.into());
    fields.insert("content".to_owned(), value.into());
    // What else the turn says is kept or refused as for any message.
    let others = node.object()?.iter().filter(|(name, _)| !matches!(name.as_str(), "from" | "value"));
    fields.extend(others.map(|(name, value)| (name.clone(), value.clone())));
    node.message_from(fields)
}

const CALL: &str = "a call as JSON: its name and arguments, or a list of calls";

/// An assistant's turn that is a call, or several, written as JSON.
fn call(node: &Node, text: &Node) -> Result<Message, RowError> {
    let parsed: Value = serde_json::from_str(&text.text()?).map_err(|_| text.error(CALL))?;
    let calls = match parsed {
        Value::Array(calls) => calls,
        one => vec![one],
    };
    let function = |call: Value| {
        let is_call = call.get("name").is_some_and(Value::is_string) && call.get("arguments").is_some();
        is_call.then(|| json!({"type": "function", "function": call})).ok_or_else(|| text.error(CALL))
    };
    let calls: Vec<Value> = calls.into_iter().map(function).collect::<Result<_, _>>()?;
    let message = json!({"role": "assistant", "content": "", "tool_calls": calls});
    node.message_from(message.as_object().cloned().unwrap_or_default())
}

fn ends_with(node: &Node, expected: &str, last: &Message) -> RowError {
    let expected = format!("{expected} at the end");
    RowError::Field { field: node.path.clone(), expected, found: format!("a message of \"{}\"", last.role) }
}
