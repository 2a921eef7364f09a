//! One rated response a row: `prompt`, `completion`, `reward`.

use serde_json::{Map, Value};

use super::conversation;
use super::node::{Node, RowError};
use super::raw::{RawGroup, RawResponse};
use super::spec::{LayoutSpec, Numbers, has, has_any};

const TEXTS: [&str; 2] = ["completion", "response"];
const NUMBERS: [&str; 2] = ["reward", "score"];

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "rated",
    fields: "prompt, completion (or response), reward (or score)",
    prompt: "`prompt`; rows with the same prompt are one group",
    responses: "`completion` or `response`",
    rewards: "`reward` or `score`",
    numbers: Numbers::Scores,
    reads: &[],
    matches,
    parse,
};

fn matches(row: &Map<String, Value>) -> bool {
    has(row, &["prompt"]) && has_any(row, &TEXTS) && has_any(row, &NUMBERS)
}

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let text = given(row, &TEXTS);
    let completion = [row.require(text, "a string or a list of messages")?];
    row.require("prompt", "a string or a list of messages")?;
    let mut conversation = conversation::split(row, &completion)?;
    let reply = conversation.replies.pop().unwrap_or_default();
    let number = given(row, &NUMBERS);
    let response = RawResponse::new(reply, &completion[0].path, row.signal(number)?, number.to_owned());
    Ok(RawGroup::one_of_many(conversation.prompt, response, if number == NUMBERS[0] { "reward" } else { "score" }))
}

/// The first of several names that a row has.
fn given<'k>(row: &Node, names: &[&'k str]) -> &'k str {
    names.iter().copied().find(|name| row.given(name).is_some()).unwrap_or(names[0])
}
