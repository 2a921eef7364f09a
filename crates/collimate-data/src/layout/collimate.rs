//! This project's layout: `{"prompt", "responses": [{"content", "message" or "messages", "reward", "scores"?, "token_ids"?}]}`,
//! and the same with other names: `completions`; `text`, `response`, `completion`, `output`; `score`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::conversation;
use super::node::{Node, RowError, number_of};
use super::rankings::are_ranked;
use super::raw::{RawGroup, RawResponse};
use super::scored_lists::{self, are_texts};
use super::spec::{LayoutSpec, Numbers, has_any};
use crate::Message;

const TEXTS: [&str; 5] = ["content", "text", "response", "completion", "output"];
const NUMBERS: [&str; 2] = ["reward", "score"];

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "collimate",
    fields: "prompt, responses[].content, responses[].reward",
    prompt: "`prompt`",
    responses: "`responses[]` or `completions[]`: `.content`, `.text`, `.response`, `.completion` or `.output`",
    rewards: "their `.reward` or `.score`",
    numbers: Numbers::Scores,
    reads: &[],
    matches,
    parse,
};

fn matches(row: &Map<String, Value>) -> bool {
    let is_list =
        |(name, value): (&String, &Value)| value.is_array() && !["responses", "prompt"].contains(&name.as_str());
    // Texts beside another list belong together with it, as other layouts or the user's paths say.
    let is_others = |value: &Value| are_ranked(value) || (are_some_texts(value) && row.iter().any(is_list));
    row.get("responses").is_some_and(|value| !is_others(value) && !scored_lists::matches(row))
        || (row.contains_key("prompt") && row.get("completions").is_some_and(are_rated))
}

fn are_some_texts(value: &Value) -> bool {
    are_texts(value) && value.as_array().is_some_and(|items| !items.is_empty())
}

/// Whether this is a list of responses of which one has a reward or a score.
fn are_rated(value: &Value) -> bool {
    let is_rated = |item: &Value| item.as_object().is_some_and(|item| has_any(item, &NUMBERS));
    value.as_array().is_some_and(|items| items.iter().any(is_rated))
}

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let prompt = row.require("prompt", "a string or a list of messages")?.prompt()?;
    let key = if row.given("responses").is_none() && row.given("completions").is_some() {
        "completions"
    } else {
        "responses"
    };
    let items = row.require(key, "a list of responses")?.items("a list of responses")?;
    let has = |name: &str| items.iter().any(|item| item.get(name).is_some());
    let number = if !has(NUMBERS[0]) && has(NUMBERS[1]) { NUMBERS[1] } else { NUMBERS[0] };
    let responses = items.iter().map(|item| response(item, number)).collect::<Result<_, _>>()?;
    let names = match (key, number) {
        ("responses", "reward") => "responses[].reward",
        ("responses", _) => "responses[].score",
        (_, "reward") => "completions[].reward",
        _ => "completions[].score",
    };
    Ok(RawGroup::new(prompt, responses, names))
}

fn response(node: &Node, number: &str) -> Result<RawResponse, RowError> {
    let reply = match (node.given("messages"), node.get("message").filter(|message| message.value.is_object())) {
        (Some(messages), _) => conversation::reply(messages.messages()?, 0, &messages)?,
        (None, Some(message)) => assistant(&message)?.into(),
        (None, None) => node.reply(&TEXTS)?.into(),
    };
    // Optional here, since rewards may be computed from `scores`. Missing rewards fail when they are needed.
    let signal = node.signal(number)?;
    let mut aspects = BTreeMap::new();
    if let Some(scores) = node.get("scores").filter(|scores| !scores.value.is_null()) {
        for name in scores.object()?.keys() {
            if let Some(score) = scores.optional_number(name)? {
                aspects.insert(name.clone(), score);
            }
        }
    }
    let mut response = RawResponse::new(reply, &node.path, signal, node.child_path(number));
    let numbers = node.object()?.iter();
    response.others =
        numbers.filter_map(|(name, value)| number_of(value).map(|number| (name.clone(), number))).collect();
    response.aspects = aspects;
    response.token_ids = token_ids(node)?;
    Ok(response)
}

/// The tokens of a response that `collimate sample` drew.
fn token_ids(node: &Node) -> Result<Option<Vec<u32>>, RowError> {
    let Some(ids) = node.get("token_ids").filter(|ids| !ids.value.is_null()) else { return Ok(None) };
    let id =
        |item: &Node| item.value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| item.error("a token id"));
    ids.items("a list of token ids")?.iter().map(id).collect::<Result<_, _>>().map(Some)
}

/// A whole message, which must be the assistant's.
fn assistant(node: &Node) -> Result<Message, RowError> {
    let message = node.message()?;
    match message.role.as_str() {
        "assistant" => Ok(message),
        role => Err(RowError::Field {
            field: node.child_path("role"),
            expected: "\"assistant\"".to_owned(),
            found: format!("\"{role}\""),
        }),
    }
}
