//! This project's layout: `{"prompt", "responses": [{"content", "message" or "messages", "reward", "scores"?, "token_ids"?}]}`.

use std::collections::BTreeMap;

use super::conversation;
use super::node::{Node, RowError, number_of};
use super::raw::{RawGroup, RawResponse};
use super::scored_lists;
use super::spec::{LayoutSpec, Numbers};
use crate::Message;

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "collimate",
    fields: "prompt, responses[].content, responses[].reward",
    prompt: "`prompt`",
    responses: "`responses[].content`",
    rewards: "`responses[].reward`",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| row.contains_key("responses") && !scored_lists::matches(row),
    parse,
};

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let prompt = row.require("prompt", "a string or a list of messages")?.prompt()?;
    let items = row.require("responses", "a list of responses")?.items("a list of responses")?;
    let responses = items.iter().map(response).collect::<Result<_, _>>()?;
    Ok(RawGroup::new(prompt, responses, "responses[].reward"))
}

fn response(node: &Node) -> Result<RawResponse, RowError> {
    let reply = match (node.given("messages"), node.get("message").filter(|message| message.value.is_object())) {
        (Some(messages), _) => conversation::reply(messages.messages()?, 0, &messages)?,
        (None, Some(message)) => assistant(&message)?.into(),
        (None, None) => node.reply(&["content"])?.into(),
    };
    // Optional here, since rewards may be computed from `scores`. Missing rewards fail when they are needed.
    let signal = node.signal("reward")?;
    let mut aspects = BTreeMap::new();
    if let Some(scores) = node.get("scores").filter(|scores| !scores.value.is_null()) {
        for name in scores.object()?.keys() {
            if let Some(score) = scores.optional_number(name)? {
                aspects.insert(name.clone(), score);
            }
        }
    }
    let mut response = RawResponse::new(reply, &node.path, signal, node.child_path("reward"));
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
