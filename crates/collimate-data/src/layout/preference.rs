//! TRL's preference pairs: `{"prompt"?, "chosen", "rejected", "score_chosen"?, "score_rejected"?}`.

use super::node::{Node, RowError};
use super::spec::{LayoutSpec, Numbers, has};
use super::{RawGroup, RawResponse, conversation};

/// In rows without scores the chosen response has reward 1, the rejected one 0.
pub(super) const UNSCORED: &str = "chosen 1, rejected 0";

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "preference",
    fields: "prompt (or implicit in conversations), chosen, rejected",
    prompt: "`prompt`, or the messages that both begin with",
    responses: "`chosen`, `rejected`",
    rewards: "`score_chosen`, `score_rejected`, else 1 and 0",
    numbers: Numbers::Scores,
    matches: |row| has(row, &["chosen", "rejected"]),
    parse: parse,
};

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let expected = "a string or a list of messages";
    let completions = [row.require("chosen", expected)?, row.require("rejected", expected)?];
    let conversation = conversation::split(row, &completions)?;
    let scored = ["score_chosen", "score_rejected"].iter().any(|key| row.get(key).is_some_and(|n| !n.value.is_null()));
    let mut responses = Vec::with_capacity(2);
    for ((content, node), (key, unscored)) in
        conversation.contents.into_iter().zip(&completions).zip([("score_chosen", 1.0), ("score_rejected", 0.0)])
    {
        let signal =
            if scored { row.require(key, "a finite number, like the other response's")?.number()? } else { unscored };
        responses.push(RawResponse {
            content,
            field: node.path.clone(),
            signal: Some(signal),
            signal_field: key.to_owned(),
            ..RawResponse::default()
        });
    }
    let signal_name = if scored { "score_chosen, score_rejected" } else { UNSCORED };
    Ok(RawGroup { prompt: conversation.prompt, responses, signal_name })
}
