//! HelpSteer, HelpSteer 2 and HelpSteer 3: ratings of single responses, and preferences between two.

use super::node::{Node, RowError};
use super::raw::{RawGroup, RawResponse};
use super::spec::{LayoutSpec, Numbers, has};
use crate::{Message, Prompt};

const ASPECTS: [&str; 5] = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"];

pub(super) static RATINGS: LayoutSpec = LayoutSpec {
    name: "helpsteer2",
    fields: "prompt, response, helpfulness",
    prompt: "`prompt`, whose turns `<extra_id_1>…` become messages; rows with the same prompt are one group",
    responses: "`response`",
    rewards: "`helpfulness`; the other ratings by `aspects:correctness=…`",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["prompt", "response", "helpfulness"]),
    parse: parse_ratings,
};

pub(super) static PREFERENCE_2: LayoutSpec = LayoutSpec {
    name: "helpsteer2_preference",
    fields: "prompt, response_1, response_2, preference_strength",
    prompt: "`prompt`, whose turns `<extra_id_1>…` become messages",
    responses: "`response_1`, `response_2`",
    rewards: "the preferred one has |`preference_strength`|, the other 0; below 0 the first is preferred",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["response_1", "response_2", "preference_strength"]),
    parse: |row| preference(row, prompt(row)?, ["response_1", "response_2"], "preference_strength"),
};

pub(super) static PREFERENCE_3: LayoutSpec = LayoutSpec {
    name: "helpsteer3",
    fields: "context, response1, response2, overall_preference",
    prompt: "`context`",
    responses: "`response1`, `response2`",
    rewards: "the preferred one has |`overall_preference`|, the other 0; below 0 the first is preferred",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["context", "response1", "response2", "overall_preference"]),
    parse: |row| {
        let context = row.require("context", "a string or a list of messages")?.prompt()?;
        preference(row, context, ["response1", "response2"], "overall_preference")
    },
};

fn parse_ratings(row: &Node) -> Result<RawGroup, RowError> {
    let node = row.require("response", "a string")?;
    let helpfulness = row.signal("helpfulness")?;
    let mut response = RawResponse::new(node.reply_text()?, &node.path, helpfulness, "helpfulness".to_owned());
    for name in ASPECTS {
        response.aspects.extend(row.optional_number(name)?.map(|rating| (name.to_owned(), rating)));
    }
    Ok(RawGroup::one_of_many(prompt(row)?, response, "helpfulness"))
}

/// A signed preference, −3 for the first by far, 3 for the second by far.
fn preference(row: &Node, prompt: Prompt, keys: [&str; 2], key: &'static str) -> Result<RawGroup, RowError> {
    let strength = row.signal(key)?;
    let mut responses = Vec::with_capacity(2);
    for (text, sign) in keys.into_iter().zip([-1.0, 1.0]) {
        let node = row.require(text, "a string")?;
        let reward = strength.map(|strength| f64::max(sign * strength, 0.0));
        responses.push(RawResponse::new(node.reply_text()?, &node.path, reward, key.to_owned()));
    }
    Ok(RawGroup::new(prompt, responses, key))
}

/// The turns of `question<extra_id_1>Assistant\nanswer<extra_id_1>User\nquestion`, without an empty last one.
fn prompt(row: &Node) -> Result<Prompt, RowError> {
    let node = row.require("prompt", "a string")?;
    let text = node.text()?;
    let mut parts = text.split("<extra_id_1>");
    let mut messages = vec![Message::new("user", parts.next().unwrap_or_default().trim_end_matches('\n'))];
    for part in parts {
        let (speaker, content) = part.split_once('\n').unwrap_or((part, ""));
        let role = match speaker.trim() {
            "User" => "user",
            "Assistant" => "assistant",
            _ => return Err(node.error("turns of <extra_id_1>User and <extra_id_1>Assistant")),
        };
        messages.push(Message::new(role, content.trim_end_matches('\n')));
    }
    if messages.last().is_some_and(|last| last.role == "assistant" && last.content.is_empty()) {
        messages.pop();
    }
    // Text that begins with a marker has nothing before it.
    if messages.len() > 1 && messages[0].content.is_empty() {
        messages.remove(0);
    }
    Ok(Prompt::Messages(messages))
}
