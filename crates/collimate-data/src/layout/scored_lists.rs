//! A list of texts with a list of numbers, as samplers and GRPO's logs write them.

use serde_json::{Map, Value};

use super::conversation;
use super::node::{Node, RowError};
use super::raw::{RawGroup, RawResponse};
use super::spec::{LayoutSpec, Numbers};

const TEXTS: [&str; 5] = ["completions", "responses", "outputs", "generations", "candidates"];
const NUMBERS: [&str; 2] = ["rewards", "scores"];

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "scored_lists",
    fields: "prompt, completions (or responses, outputs, generations, candidates), rewards (or scores)",
    prompt: "`prompt`",
    responses: "`completions[]`, `responses[]`, `outputs[]`, `generations[]` or `candidates[]`: texts or messages",
    rewards: "`rewards[]` or `scores[]`, one for each response",
    numbers: Numbers::Scores,
    reads: &[],
    matches,
    parse,
};

/// Whether a row has a list of texts or conversations beside a list of numbers.
pub(super) fn matches(row: &Map<String, Value>) -> bool {
    let is_text = |item: &Value| item.is_string() || item.is_array();
    // A null among texts is named as what is wrong with the row.
    let are_texts = |items: &Vec<Value>| {
        items.iter().all(|item| is_text(item) || item.is_null()) && (items.is_empty() || items.iter().any(is_text))
    };
    let is_texts = |value: &Value| value.is_null() || value.as_array().is_some_and(are_texts);
    let is_numbers = |value: &Value| value.is_null() || value.is_array();
    TEXTS.iter().any(|key| row.get(*key).is_some_and(is_texts))
        && NUMBERS.iter().any(|key| row.get(*key).is_some_and(is_numbers))
}

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let texts = row.require(given(row, &TEXTS), "a list of texts")?;
    let numbers = row.require(given(row, &NUMBERS), "a list of numbers")?;
    let completions = texts.items("a list of texts")?;
    let rewards = numbers.items("a list of numbers")?;
    if rewards.len() != completions.len() {
        let expected = format!("{} numbers, one for each of \"{}\"", completions.len(), texts.path);
        return Err(RowError::Field { field: numbers.path, expected, found: rewards.len().to_string() });
    }
    row.require("prompt", "a string or a list of messages")?;
    let conversation = conversation::split(row, &completions)?;
    let mut responses = Vec::with_capacity(completions.len());
    for ((reply, node), reward) in conversation.replies.into_iter().zip(&completions).zip(&rewards) {
        responses.push(RawResponse::new(reply, &node.path, reward.as_signal()?, reward.path.clone()));
    }
    let name = if numbers.path == NUMBERS[0] { "rewards[]" } else { "scores[]" };
    Ok(RawGroup::new(conversation.prompt, responses, name))
}

/// The first of several names that a row has.
fn given<'k>(row: &Node, keys: &[&'k str]) -> &'k str {
    keys.iter().copied().find(|key| row.given(key).is_some()).unwrap_or(keys[0])
}
