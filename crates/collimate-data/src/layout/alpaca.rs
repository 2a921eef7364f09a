//! Alpaca: `{"instruction", "input"?, "output"}`, also with `chosen` and `rejected`, two outputs, or a label.

use serde_json::{Map, Value};

use super::chat::response;
use super::kto::single;
use super::node::{Node, RowError};
use super::preference::UNSCORED;
use super::raw::RawGroup;
use super::spec::{LayoutSpec, Numbers, has, has_any};
use crate::{Message, Prompt};

/// Names of the instruction: Alpaca's, those of OpenOrca and its pairs, ms-swift's, and Argilla's pairs.
const INSTRUCTIONS: [&str; 4] = ["instruction", "question", "query", "input"];
/// Names of what the instruction is about: Alpaca's and Dolly's.
const INPUTS: [&str; 2] = ["input", "context"];
const OUTPUTS: [&str; 2] = ["output", "response"];

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "alpaca",
    fields: "instruction (or question, query), input, and output (or response), or chosen and rejected",
    prompt: "`system`, `history`, then `instruction` (or `question`, `query`), a new line and `input` (or `context`) as the \
             user's message; a label makes rows with the same prompt one group",
    responses: "`chosen`, `rejected`; `output` (or `response`) and `rejected_response`; both of a list `output`; or only \
                `output`",
    rewards: "1 and 0; `label` or `kto_tag`: true 1, false 0; else none: one response, to be imitated",
    numbers: Numbers::Scores,
    reads: &["input", "history"],
    matches,
    parse,
};

fn matches(row: &Map<String, Value>) -> bool {
    let is_text = |key: &str| row.get(key).is_some_and(|value| !value.is_array());
    let is_pair = is_text("chosen") && row.contains_key("rejected");
    let is_other = has_any(row, &["prompt", "completions", "answers"]);
    !is_other && has_any(row, &INSTRUCTIONS) && (is_pair || has_any(row, &OUTPUTS) && !has(row, &["chosen"]))
}

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let prompt = prompt(row)?;
    if row.get("chosen").is_some() {
        let nodes = [row.require("chosen", "a string")?, row.require("rejected", "a string")?];
        let [chosen, rejected] = [response(&nodes[0])?, response(&nodes[1])?];
        return Ok(RawGroup::pair(prompt, [(chosen, &nodes[0]), (rejected, &nodes[1])], UNSCORED));
    }
    let key = OUTPUTS.into_iter().find(|key| row.get(key).is_some()).unwrap_or(OUTPUTS[0]);
    let output = row.require(key, "a string")?;
    if output.value.is_array() {
        let items = output.items("two texts, the better one first")?;
        let [better, worse] = items.as_slice() else { return Err(output.error("two texts, the better one first")) };
        return Ok(RawGroup::pair(
            prompt,
            [(better.reply_text()?, better), (worse.reply_text()?, worse)],
            "the first output 1, the second 0",
        ));
    }
    let reply = output.reply_text()?;
    match row.get("rejected_response") {
        Some(rejected) => {
            let pair = [(reply.into(), &output), (response(&rejected)?, &rejected)];
            Ok(RawGroup::pair(prompt, pair, "response 1, rejected_response 0"))
        }
        None => single(prompt, reply, &output, row),
    }
}

/// The earlier turns, and the instruction with its input.
fn prompt(row: &Node) -> Result<Prompt, RowError> {
    let mut messages = Vec::new();
    if let Some(history) = row.given("history") {
        let expected = "pairs of an instruction and its answer";
        for turn in history.items(expected)? {
            let pair = turn.items(expected)?;
            let [question, answer] = pair.as_slice() else { return Err(turn.error(expected)) };
            messages.push(Message::new("user", question.text()?));
            messages.push(Message::new("assistant", answer.text()?));
        }
    }
    let key = INSTRUCTIONS.into_iter().find(|key| row.get(key).is_some()).unwrap_or(INSTRUCTIONS[0]);
    let mut text = row.require(key, "a string")?.text()?;
    let input = INPUTS.into_iter().filter(|input| *input != key).find_map(|input| row.given(input));
    if let Some(input) = input {
        let input = input.text()?;
        if !input.is_empty() {
            text = if text.is_empty() { input } else { format!("{text}\n{input}") };
        }
    }
    messages.push(Message::new("user", text));
    Ok(Prompt::Messages(messages))
}
