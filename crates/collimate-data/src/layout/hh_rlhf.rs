//! Anthropic's hh-rlhf: `{"chosen": "\n\nHuman: …\n\nAssistant: …", "rejected": …}`.

use serde_json::{Map, Value};

use super::dialogue::turns;
use super::node::{Node, RowError};
use super::preference::UNSCORED;
use super::raw::RawGroup;
use super::spec::{LayoutSpec, Numbers};
use crate::{Message, Prompt, SkipReason};

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "hh_rlhf",
    fields: "chosen and rejected, each a text \\n\\nHuman: …\\n\\nAssistant: …",
    prompt: "the turns before the last of the assistant's, as messages",
    responses: "the last turn of `chosen` and of `rejected`",
    rewards: "1 and 0",
    numbers: Numbers::Scores,
    reads: &[],
    matches,
    parse,
};

fn matches(row: &Map<String, Value>) -> bool {
    let is_dialogue = |key: &str| {
        let text = row.get(key).and_then(Value::as_str);
        text.is_some_and(|text| text.trim_start().starts_with("Human:") && text.contains("\n\nAssistant:"))
    };
    !row.contains_key("prompt") && is_dialogue("chosen") && is_dialogue("rejected")
}

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let nodes = [row.require("chosen", "a dialogue in text")?, row.require("rejected", "a dialogue in text")?];
    let (prompt, chosen) = split(&nodes[0])?;
    let (other, rejected) = split(&nodes[1])?;
    if prompt != other {
        let problem = "\"chosen\" and \"rejected\" differ before the assistant's last turn".to_owned();
        return Err(RowError::Unusable(SkipReason::PromptsDiffer, problem));
    }
    let [chosen_node, rejected_node] = &nodes;
    Ok(RawGroup::pair(Prompt::Messages(prompt), [(chosen, chosen_node), (rejected, rejected_node)], UNSCORED))
}

/// The turns before the last, which must be the assistant's, and the last.
fn split(node: &Node) -> Result<(Vec<Message>, Message), RowError> {
    let expected = "a dialogue \"\\n\\nHuman: …\\n\\nAssistant: …\" that ends with the assistant's turn";
    let mut messages = turns(&node.text()?).ok_or_else(|| node.error(expected))?;
    match messages.pop() {
        Some(last) if last.role == "assistant" => Ok((messages, last)),
        _ => Err(node.error(expected)),
    }
}
