//! A list of texts with a list of numbers, as samplers and GRPO's logs write them: scores, or ranks.

use crate::counted;
use serde_json::{Map, Value};

use super::conversation;
use super::node::{Node, RowError, number_of};
use super::raw::{RawGroup, RawResponse};
use super::spec::{LayoutSpec, Numbers};

const TEXTS: [&str; 5] = ["completions", "responses", "outputs", "generations", "candidates"];
const NUMBERS: [&str; 2] = ["rewards", "scores"];
const RANKS: [&str; 2] = ["ranks", "rank"];
/// Names of lists that hold a rank for each response in some data and the order of the responses in other.
const RANKS_OR_ORDERS: [&str; 2] = ["ranking", "rankings"];

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

pub(super) static RANKED: LayoutSpec = LayoutSpec {
    name: "ranked_lists",
    fields: "prompt, completions (or responses, outputs, generations, candidates), ranks (or rank), 1 being the best",
    prompt: "`prompt`",
    responses: "the same",
    rewards: "`ranks[]` or `rank[]`, one for each response, 1 being the best; `ranking[]` if the layout is named",
    numbers: Numbers::Ranks,
    reads: &[],
    matches: |row| has_texts(row) && has_list(row, &RANKS),
    parse: |row| parse_with(row, &[&RANKS[..], &RANKS_OR_ORDERS].concat(), Numbers::Ranks),
};

/// Whether a row has a list of texts or conversations beside a list of numbers.
pub(super) fn matches(row: &Map<String, Value>) -> bool {
    has_texts(row) && has_list(row, &NUMBERS)
}

fn has_texts(row: &Map<String, Value>) -> bool {
    TEXTS.iter().any(|key| row.get(*key).is_some_and(|value| value.is_null() || are_texts(value)))
}

fn has_list(row: &Map<String, Value>, keys: &[&str]) -> bool {
    keys.iter().any(|key| row.get(*key).is_some_and(|value| value.is_null() || value.is_array()))
}

/// Whether this is a list of texts or conversations.
pub(super) fn are_texts(value: &Value) -> bool {
    let is_text = |item: &Value| item.is_string() || item.is_array();
    // A null among texts is named as what is wrong with the row.
    let are_texts = |items: &Vec<Value>| {
        items.iter().all(|item| is_text(item) || item.is_null()) && (items.is_empty() || items.iter().any(is_text))
    };
    value.as_array().is_some_and(are_texts)
}

/// What to do about a row whose numbers may be a rank for each response or the responses' order.
pub(crate) fn doubt(row: &Map<String, Value>) -> Option<String> {
    let name = RANKS_OR_ORDERS.into_iter().find(|name| has_texts(row) && has_list(row, &[name]))?;
    Some(format!(
        "\"{name}\" may hold a rank for each response or the responses in their order: if it holds ranks, 1 being the best, \
         `--layout ranked_lists` (`data_layout`) reads them"
    ))
}

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    parse_with(row, &NUMBERS, Numbers::Scores)
}

fn parse_with(row: &Node, names: &[&'static str], kind: Numbers) -> Result<RawGroup, RowError> {
    let texts = row.require(given(row, &TEXTS), "a list of texts")?;
    let name = given(row, names);
    let numbers = row.require(name, "a list of numbers")?;
    let completions = texts.items("a list of texts")?;
    let rewards = numbers.items("a list of numbers")?;
    if rewards.len() != completions.len() {
        let expected = format!("{}, one for each of \"{}\"", counted(completions.len(), "number"), texts.path);
        return Err(RowError::Field { field: numbers.path, expected, found: rewards.len().to_string() });
    }
    row.require("prompt", "a string or a list of messages")?;
    let conversation = conversation::split(row, &completions)?;
    let mut responses = Vec::with_capacity(completions.len());
    for ((reply, node), reward) in conversation.replies.into_iter().zip(&completions).zip(&rewards) {
        let signal = reward.as_signal()?;
        if kind == Numbers::Ranks {
            check_rank(reward, completions.len())?;
        }
        responses.push(RawResponse::new(reply, &node.path, signal, reward.path.clone()));
    }
    let group = RawGroup::new(conversation.prompt, responses, signal_name(name));
    Ok(RawGroup { signal_expected: (kind == Numbers::Ranks).then_some("a rank"), ..group })
}

/// Where a list's numbers come from, for messages.
fn signal_name(name: &str) -> &'static str {
    let names = ["rewards[]", "scores[]", "ranks[]", "rank[]", "ranking[]", "rankings[]"];
    names.into_iter().find(|known| known.strip_suffix("[]") == Some(name)).unwrap_or("rewards[]")
}

/// Checks a rank that is there: from 1, the best, to the number of responses.
pub(super) fn check_rank(rank: &Node, num_responses: usize) -> Result<(), RowError> {
    match number_of(rank.value) {
        Some(number) if !(1.0..=num_responses as f64).contains(&number) => {
            Err(rank.error(&format!("a rank from 1 to {num_responses}, the number of responses")))
        }
        _ => Ok(()),
    }
}

/// The first of several names that a row has.
fn given<'k>(row: &Node, keys: &[&'k str]) -> &'k str {
    keys.iter().copied().find(|key| row.given(key).is_some()).unwrap_or(keys[0])
}
