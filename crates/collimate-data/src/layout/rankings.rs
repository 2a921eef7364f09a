//! Rankings: Nectar's `answers[].answer/.rank`, and the generic `completions[].completion/.rank`; rank 1 is best.

use super::dialogue::dialogue;
use super::node::{Node, RowError};
use super::raw::{RawGroup, RawResponse};
use super::spec::{LayoutSpec, Numbers, has, has_any};
use crate::Prompt;

const TEXT_KEYS: [&str; 4] = ["completion", "response", "content", "text"];

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
    responses: "`completions[].completion`, `.response`, `.content` or `.text`",
    rewards: "`completions[].rank`, 1 being the best",
    numbers: Numbers::Ranks,
    reads: &[],
    matches: |row| has_any(row, &["prompt", "context"]) && has(row, &["completions"]),
    parse: parse_ranking,
};

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
    let items = row.require("completions", "a list of completions")?.items("a list of completions")?;
    let num_items = items.len();
    let responses = items.iter().map(|node| ranked(node, &TEXT_KEYS, num_items)).collect::<Result<_, _>>()?;
    Ok(ranking(prompt, responses, "completions[].rank"))
}

fn ranking(prompt: Prompt, responses: Vec<RawResponse>, signal_name: &'static str) -> RawGroup {
    RawGroup { signal_expected: Some("a rank"), ..RawGroup::new(prompt, responses, signal_name) }
}

fn ranked(node: &Node, text_keys: &[&str], num_responses: usize) -> Result<RawResponse, RowError> {
    let reply = node.reply(text_keys)?;
    let rank = node.signal("rank")?;
    if let (Ok(number), Some(rank)) = (rank, node.get("rank"))
        && !(1.0..=num_responses as f64).contains(&number)
    {
        return Err(rank.error(&format!("a rank from 1 to {num_responses}, the number of responses")));
    }
    let mut response = RawResponse::new(reply, &node.path, rank, node.child_path("rank"));
    response.others.extend(rank.ok().map(|rank| ("rank".to_owned(), rank)));
    Ok(response)
}
