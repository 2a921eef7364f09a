//! Pictures as tokens: `condition` and `tokens`, also with a reward, or `responses[].tokens` with rewards.

use serde_json::{Map, Value};

use super::node::{Node, RowError};
use super::raw::{RawGroup, RawResponse};
use super::spec::{LayoutSpec, Numbers, has, has_any};
use crate::{Message, Prompt};

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "pictures",
    fields: "condition and tokens; or condition and responses[].tokens, responses[].reward",
    prompt: "`condition`, the number of a class; rated rows with the same one are one group",
    responses: "`tokens`, or `responses[].tokens`, the tokens of a picture",
    rewards: "`reward` or `responses[].reward`; without one, the picture is to be imitated",
    numbers: Numbers::Scores,
    reads: &[],
    matches,
    parse,
};

/// The text of a condition, given its number.
pub fn condition_of(number: usize) -> String {
    format!("class {number}")
}

fn matches(row: &Map<String, Value>) -> bool {
    has(row, &["condition"]) && has_any(row, &["tokens", "responses"]) && !has(row, &["prompt"])
}

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let prompt = prompt(row)?;
    if row.given("tokens").is_some() {
        let reply = picture(row)?;
        let node = row.require("tokens", EXPECTED)?;
        if row.get("reward").is_none() {
            let mut group = RawGroup::demonstration(prompt, reply.0.into(), &node);
            group.responses.iter_mut().for_each(|response| response.token_ids = Some(reply.1.clone()));
            return Ok(group);
        }
        let mut response = RawResponse::new(reply.0, &node.path, row.signal("reward")?, "reward".to_owned());
        response.token_ids = Some(reply.1);
        return Ok(RawGroup::one_of_many(prompt, response, "reward"));
    }
    let responses = row.require("responses", "a list of pictures")?.items("a list of pictures")?;
    let response = |node: &Node| {
        let (reply, ids) = picture(node)?;
        let mut response = RawResponse::new(reply, &node.path, node.signal("reward")?, node.child_path("reward"));
        response.token_ids = Some(ids);
        Ok(response)
    };
    let responses = responses.iter().map(response).collect::<Result<_, RowError>>()?;
    Ok(RawGroup::new(prompt, responses, "responses[].reward"))
}

/// The prompt of a row with a condition.
pub(super) fn prompt(row: &Node) -> Result<Prompt, RowError> {
    const EXPECTED: &str = "the number of a class, from 0";
    let node = row.require("condition", EXPECTED)?;
    let number = node.value.as_u64().and_then(|number| u32::try_from(number).ok());
    let number = number.ok_or_else(|| node.error(EXPECTED))?;
    Ok(Prompt::Text(condition_of(number as usize)))
}

const EXPECTED: &str = "a list of token ids";

/// The tokens of a picture, as text and as numbers.
fn picture(node: &Node) -> Result<(Message, Vec<u32>), RowError> {
    // Sampled rows have the tokens beside their text.
    let key = if node.get("tokens").is_none() && node.get("token_ids").is_some() { "token_ids" } else { "tokens" };
    let tokens = node.require(key, EXPECTED)?;
    let id = |item: &Node| {
        let id = item.value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| item.error("a token id"))
    };
    let ids = tokens.items(EXPECTED)?.iter().map(id).collect::<Result<Vec<u32>, _>>()?;
    if ids.is_empty() {
        return Err(tokens.error("at least one token id"));
    }
    let text: Vec<String> = ids.iter().map(u32::to_string).collect();
    Ok((Message::new("assistant", text.join(" ")), ids))
}
