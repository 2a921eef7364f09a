//! PKU-SafeRLHF: `{"prompt", "response_0", "response_1", "better_response_id", "safer_response_id", …}`.

use super::node::{Node, RowError};
use super::raw::{RawGroup, RawResponse};
use super::spec::{LayoutSpec, Numbers, has};
use crate::{Message, Prompt};

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "pku_safe_rlhf",
    fields: "prompt, response_0, response_1, better_response_id",
    prompt: "`prompt` as the user's message",
    responses: "`response_0`, `response_1`",
    rewards: "`better_response_id`: 1 for the better one, 0 for the other; `field:safer` by `safer_response_id`, `field:is_safe`, \
              and `field:severity` (lower is better)",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["response_0", "response_1", "better_response_id"]),
    parse,
};

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let prompt = row.require("prompt", "a string")?.text()?;
    let better = choice(row, "better_response_id")?;
    let safer = row.given("safer_response_id").map(|_| choice(row, "safer_response_id")).transpose()?;
    let mut responses = Vec::with_capacity(2);
    for index in 0..2 {
        let node = row.require(&format!("response_{index}"), "a string")?;
        let reward = |chosen: usize| f64::from(u8::from(chosen == index));
        let field = "better_response_id".to_owned();
        let mut response = RawResponse::new(node.reply_text()?, &node.path, Ok(reward(better)), field);
        response.others.extend(safer.map(|safer| ("safer".to_owned(), reward(safer))));
        let numbers = [
            ("is_safe", format!("is_response_{index}_safe")),
            ("severity", format!("response_{index}_severity_level")),
        ];
        for (name, key) in numbers {
            response.others.extend(row.optional_number(&key)?.map(|number| (name.to_owned(), number)));
        }
        responses.push(response);
    }
    let prompt = Prompt::Messages(vec![Message::new("user", prompt)]);
    Ok(RawGroup::new(prompt, responses, "better_response_id"))
}

/// The number of a response, 0 or 1.
fn choice(row: &Node, key: &str) -> Result<usize, RowError> {
    let node = row.require(key, "0 or 1, the number of a response")?;
    match node.value.as_u64() {
        Some(0) => Ok(0),
        Some(1) => Ok(1),
        _ => Err(node.error("0 or 1, the number of a response")),
    }
}
