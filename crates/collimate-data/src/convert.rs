//! Writes groups in another layout.

use std::path::Path;

use collimate_rewards::{Pair, PairRule, pairs};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{DataError, Layout, Message, Prompt, PromptGroup, Response, RowWriter};

/// The layout to write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConvertTo {
    /// `prompt`, `responses[].content/.reward/.scores`.
    Collimate,
    /// `prompt`, `chosen`, `rejected`, `score_chosen`, `score_rejected`: one row per pair.
    Preference(PairRule),
    /// `prompt`, `A0`, `score_A0`, …, best first.
    RankedSet,
}

impl ConvertTo {
    /// The target for a layout; `rule` forms the pairs of [`Layout::Preference`].
    ///
    /// # Errors
    /// The layout can be read but not written.
    pub fn new(layout: Layout, rule: PairRule) -> Result<Self, DataError> {
        match layout {
            Layout::Collimate => Ok(Self::Collimate),
            Layout::Preference => Ok(Self::Preference(rule)),
            Layout::RankedSet => Ok(Self::RankedSet),
            _ => Err(DataError::Options {
                problem: format!("the layout {layout} is not written; collimate, preference and ranked_set are"),
            }),
        }
    }
}

/// Counts of a conversion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConvertReport {
    /// Groups read.
    pub num_groups: usize,
    /// Rows written.
    pub num_rows: usize,
    /// Groups without a pair: their rewards are equal, or closer than the margin.
    pub num_without_pairs: usize,
}

/// Writes groups to `path` as JSON Lines, atomically.
///
/// # Errors
/// The first error in `groups`, or a write error; `path` then stays as it was.
pub fn convert(
    groups: impl IntoIterator<Item = Result<PromptGroup, DataError>>,
    path: impl AsRef<Path>,
    to: ConvertTo,
) -> Result<ConvertReport, DataError> {
    let path = path.as_ref();
    if path.file_name().is_none() {
        return Err(DataError::File { path: path.to_owned(), problem: "this is not the name of a file".to_owned() });
    }
    let mut writer = RowWriter::create(path)?;
    let mut report = ConvertReport::default();
    for group in groups {
        let rows = rows(&group?, to);
        report.num_groups += 1;
        report.num_without_pairs += usize::from(rows.is_empty());
        rows.iter().try_for_each(|row| writer.push(row))?;
    }
    report.num_rows = writer.num_rows();
    writer.commit()?;
    Ok(report)
}

/// The rows a group becomes.
fn rows(group: &PromptGroup, to: ConvertTo) -> Vec<Value> {
    match to {
        ConvertTo::Collimate => vec![json!({ "prompt": group.prompt, "responses": group.responses })],
        ConvertTo::RankedSet => vec![ranked_set(group)],
        ConvertTo::Preference(rule) => {
            let rewards: Vec<f64> = group.responses.iter().map(|response| response.reward).collect();
            pairs(&rewards, rule, group.index).into_iter().map(|pair| preference(group, pair)).collect()
        }
    }
}

fn preference(group: &PromptGroup, pair: Pair) -> Value {
    let (chosen, rejected) = (&group.responses[pair.chosen], &group.responses[pair.rejected]);
    let completion = |response: &Response| match group.prompt {
        Prompt::Text(_) => json!(response.content),
        Prompt::Messages(_) => json!([assistant(response)]),
    };
    json!({
        "prompt": group.prompt,
        "chosen": completion(chosen),
        "rejected": completion(rejected),
        "score_chosen": chosen.reward,
        "score_rejected": rejected.reward,
    })
}

/// Best first, like the published set; whole conversations if the prompt is one.
fn ranked_set(group: &PromptGroup) -> Value {
    let mut responses: Vec<&Response> = group.responses.iter().collect();
    responses.sort_by(|a, b| b.reward.total_cmp(&a.reward));
    let mut row = Map::new();
    row.insert("prompt".to_owned(), json!(group.prompt));
    for (k, response) in responses.into_iter().enumerate() {
        let completion = match &group.prompt {
            Prompt::Text(_) => json!(response.content),
            Prompt::Messages(prompt) => {
                let mut messages = prompt.clone();
                messages.push(assistant(response));
                json!(messages)
            }
        };
        row.insert(format!("A{k}"), completion);
        row.insert(format!("score_A{k}"), json!(response.reward));
    }
    Value::Object(row)
}

fn assistant(response: &Response) -> Message {
    Message { role: "assistant".to_owned(), content: response.content.clone() }
}
