//! Rankings: Nectar's `answers[].answer/.rank`, and the generic `completions[].completion/.rank`; rank 1 is best.

use serde_json::{Map, Value};

use super::dialogue::dialogue;
use super::node::{Node, RowError};
use super::raw::{RawGroup, RawResponse};
use super::scored_lists::check_rank;
use super::spec::{LayoutSpec, Numbers, has, has_any};
use crate::Prompt;

const TEXT_KEYS: [&str; 4] = ["completion", "response", "content", "text"];
const LIST_KEYS: [&str; 2] = ["completions", "responses"];

pub(super) static NECTAR: LayoutSpec = LayoutSpec {
    name: "nectar",
    fields: "prompt, answers[].answer, answers[].rank",
    prompt: "`prompt`; `\\n\\nHuman: …` becomes messages",
    responses: "`answers[].answer`",
    rewards: "`answers[].rank`, 1 being the best",
    numbers: Numbers::Ranks,
    reads: &[],
    matches: |row| has(row, &["prompt", "answers"]),
    parse: parse_nectar,
};

pub(super) static RANKING: LayoutSpec = LayoutSpec {
    name: "ranking",
    fields: "context or prompt, completions[].completion, completions[].rank",
    prompt: "`context` or `prompt`",
    responses: "`completions[]` or `responses[]`: `.completion`, `.response`, `.content` or `.text`",
    rewards: "their `.rank`, 1 being the best",
    numbers: Numbers::Ranks,
    reads: &[],
    matches: |row| {
        let has_list = has(row, &["completions"]) || row.get("responses").is_some_and(are_ranked);
        has_any(row, &["prompt", "context"]) && has_list
    },
    parse: parse_ranking,
};

/// Whether this is a list of responses that have ranks and no other numbers.
pub(super) fn are_ranked(value: &Value) -> bool {
    let is_ranked =
        |item: &Map<String, Value>| item.contains_key("rank") && !has_any(item, &["reward", "score", "scores"]);
    let mut items = value.as_array().into_iter().flatten().map(Value::as_object);
    items.next().is_some_and(|first| first.is_some_and(is_ranked)) && items.all(|item| item.is_none_or(is_ranked))
}

fn parse_nectar(row: &Node) -> Result<RawGroup, RowError> {
    let prompt = match row.require("prompt", "a string or a list of messages")?.prompt()? {
        Prompt::Text(text) => dialogue(&text).map_or(Prompt::Text(text), Prompt::Messages),
        messages => messages,
    };
    let answers = row.require("answers", "a list of answers")?.items("a list of answers")?;
    let num_answers = answers.len();
    let responses = answers.iter().map(|node| ranked(node, &["answer"], num_answers)).collect::<Result<_, _>>()?;
    Ok(ranking(prompt, responses, "answers[].rank"))
}

fn parse_ranking(row: &Node) -> Result<RawGroup, RowError> {
    let prompt = match row.get("context") {
        Some(context) => context.prompt()?,
        None => row.require("prompt", "a string or a list of messages (or \"context\")")?.prompt()?,
    };
    let key = LIST_KEYS.into_iter().find(|key| row.given(key).is_some()).unwrap_or(LIST_KEYS[0]);
    let items = row.require(key, "a list of completions")?.items("a list of completions")?;
    let num_items = items.len();
    let responses = items.iter().map(|node| ranked(node, &TEXT_KEYS, num_items)).collect::<Result<_, _>>()?;
    Ok(ranking(prompt, responses, if key == LIST_KEYS[0] { "completions[].rank" } else { "responses[].rank" }))
}

fn ranking(prompt: Prompt, responses: Vec<RawResponse>, signal_name: &'static str) -> RawGroup {
    RawGroup { signal_expected: Some("a rank"), ..RawGroup::new(prompt, responses, signal_name) }
}

fn ranked(node: &Node, text_keys: &[&str], num_responses: usize) -> Result<RawResponse, RowError> {
    let reply = node.reply(text_keys)?;
    let rank = node.signal("rank")?;
    node.get("rank").map_or(Ok(()), |rank| check_rank(&rank, num_responses))?;
    let mut response = RawResponse::new(reply, &node.path, rank, node.child_path("rank"));
    response.others.extend(rank.ok().map(|rank| ("rank".to_owned(), rank)));
    Ok(response)
}
