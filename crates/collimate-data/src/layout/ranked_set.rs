//! The published reward set: `{"prompt"?, "A0", "score_A0", "A1", "score_A1", …}`, any number of them.

use super::conversation;
use super::node::{Node, RowError};
use super::raw::{RawGroup, RawResponse};
use super::spec::{LayoutSpec, Numbers, has};

pub(super) static SPEC: LayoutSpec = LayoutSpec {
    name: "ranked_set",
    fields: "A0, A1, … and score_A0, score_A1, …",
    prompt: "`prompt`, or the messages that all begin with",
    responses: "`A0`, `A1`, …",
    rewards: "`score_A0`, `score_A1`, …",
    numbers: Numbers::Scores,
    reads: &[],
    matches: |row| has(row, &["A0", "score_A0"]),
    parse,
};

fn parse(row: &Node) -> Result<RawGroup, RowError> {
    let fields = row.object()?;
    let mut completions = Vec::new();
    while let Some(node) = row.get(&format!("A{}", completions.len())) {
        completions.push(node);
    }
    if completions.is_empty() {
        completions.push(row.require("A0", "a string or a list of messages")?);
    }
    let beyond = |name: &&String| completion_index(name).is_some_and(|index| index >= completions.len());
    if let Some(name) = fields.keys().find(beyond) {
        return Err(RowError::Field {
            field: format!("A{}", completions.len()),
            expected: format!("a completion before \"{name}\": numbers must have no gaps"),
            found: "nothing".to_owned(),
        });
    }
    let conversation = conversation::split(row, &completions)?;
    let mut responses = Vec::with_capacity(completions.len());
    for (reply, node) in conversation.replies.into_iter().zip(&completions) {
        let score = format!("score_{}", node.path);
        responses.push(RawResponse::new(reply, &node.path, row.signal(&score)?, score));
    }
    Ok(RawGroup::new(conversation.prompt, responses, "score_A0, score_A1, …"))
}

/// The 12 of `A12`.
fn completion_index(name: &str) -> Option<usize> {
    name.strip_prefix('A')?.parse().ok()
}
