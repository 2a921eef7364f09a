//! Stack Exchange: pairs `{"question", "response_j", "response_k"}`, or `{"question", "answers": [{"text", "pm_score"}]}`.

use super::node::{Node, RowError};
use super::raw::{RawGroup, RawResponse};
use super::spec::{LayoutSpec, Numbers, has};
use crate::{Message, Prompt};

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "stack_exchange",
    fields: "question and response_j, response_k; or answers[].text, answers[].pm_score",
    prompt: "`question` as the user's message",
    responses: "`response_j`, the better one, and `response_k`; or `answers[].text`",
    rewards: "1 and 0; or `answers[].pm_score` (`field:selected`: the accepted answer)",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| {
        has(row, &["question", "response_j", "response_k"])
            || has(row, &["question", "answers"]) && !has(row, &["prompt"])
    },
    parse,
};

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let question = row.require("question", "a string")?.text()?;
    let prompt = Prompt::Messages(vec![Message::new("user", question)]);
    if row.get("answers").is_none() {
        let nodes = [row.require("response_j", "a string")?, row.require("response_k", "a string")?];
        let pair = [(nodes[0].reply_text()?, &nodes[0]), (nodes[1].reply_text()?, &nodes[1])];
        return Ok(RawGroup::pair(prompt, pair, "response_j 1, response_k 0"));
    }
    let answers = row.require("answers", "a list of answers")?.items("a list of answers")?;
    let responses = answers.iter().map(answer).collect::<Result<_, _>>()?;
    Ok(RawGroup::new(prompt, responses, "answers[].pm_score"))
}

fn answer(node: &Node) -> Result<RawResponse, RowError> {
    let reply = node.reply(&["text"])?;
    let mut response = RawResponse::new(reply, &node.path, node.signal("pm_score")?, node.child_path("pm_score"));
    response.others.extend(node.optional_number("selected")?.map(|selected| ("selected".to_owned(), selected)));
    Ok(response)
}
