//! TRL's `prompt` and `completion`: labeled good or bad, or to be imitated.

use super::conversation;
use super::node::{Node, RowError};
use super::raw::{LABELED, RawGroup, RawResponse, Reply};
use super::spec::{LayoutSpec, Numbers, has};
use crate::Prompt;

pub(super) static KTO: LayoutSpec = LayoutSpec {
    name: "kto",
    fields: "prompt, completion, label",
    prompt: "`prompt`; rows with the same prompt are one group",
    responses: "`completion`",
    rewards: "`label`: true 1, false 0",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["prompt", "completion", "label"]),
    parse: |row| {
        row.require("label", "true or false")?;
        parse(row)
    },
};

pub(super) static PROMPT_COMPLETION: LayoutSpec = LayoutSpec {
    name: "prompt_completion",
    fields: "prompt, completion",
    prompt: "`prompt`",
    responses: "`completion`",
    rewards: "none: one response, to be imitated",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["prompt", "completion"]),
    parse,
};

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let completion = [row.require("completion", "a string or a list of messages")?];
    let mut conversation = conversation::split(row, &completion)?;
    let reply = conversation.replies.pop().unwrap_or_default();
    single(conversation.prompt, reply, &completion[0], row)
}

/// A response that is labeled, or else to be imitated.
pub(super) fn single(prompt: Prompt, reply: impl Into<Reply>, node: &Node, row: &Node) -> Result<RawGroup, RowError> {
    let reply = reply.into();
    let Some(label) = row.get("label").or_else(|| row.get("kto_tag")) else {
        return Ok(RawGroup::demonstration(prompt, reply, node));
    };
    match label.number() {
        Ok(good) if good == 0.0 || good == 1.0 => {
            let response = RawResponse::new(reply, &node.path, Ok(good), label.path);
            Ok(RawGroup { is_labeled: true, ..RawGroup::one_of_many(prompt, response, LABELED) })
        }
        _ => Err(label.error("true or false")),
    }
}
