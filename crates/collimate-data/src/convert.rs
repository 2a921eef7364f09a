//! Writes groups in another layout.

use std::path::Path;

use collimate_rewards::{Pair, PairRule, pairs};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{DataError, Layout, Prompt, PromptGroup, Response, RowWriter};

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
    let rows = match to {
        ConvertTo::Collimate => vec![collimate(group)],
        ConvertTo::RankedSet => vec![ranked_set(group)],
        ConvertTo::Preference(rule) => pairs_of(group, rule).into_iter().map(|pair| preference(group, pair)).collect(),
    };
    rows.into_iter().map(|row| Value::Object(with_chat_inputs(row, group))).collect()
}

/// The pairs of a group. If its scores are equal and a label names the better response, the label makes the pair.
fn pairs_of(group: &PromptGroup, rule: PairRule) -> Vec<Pair> {
    let rewards: Vec<f64> = group.responses.iter().map(|response| response.reward).collect();
    let needs_a_gap = matches!(rule, PairRule::AllPairs { margin } if margin > 0.0);
    let is_tied = rewards.len() > 1 && rewards.iter().all(|reward| *reward == rewards[0]) && !needs_a_gap;
    match group.chosen.filter(|_| is_tied) {
        // The last of the others, as for any objective that takes the worst of equal responses.
        Some(chosen) => {
            (0..rewards.len()).rfind(|k| *k != chosen).map(|rejected| Pair { chosen, rejected }).into_iter().collect()
        }
        None => pairs(&rewards, rule, group.index),
    }
}

/// The row with what its chat template is given besides the messages.
fn with_chat_inputs(mut row: Map<String, Value>, group: &PromptGroup) -> Map<String, Value> {
    if let Some(tools) = &group.chat.tools {
        row.insert("tools".to_owned(), json!(tools));
    }
    if !group.chat.kwargs.is_empty() {
        row.insert("chat_template_kwargs".to_owned(), json!(group.chat.kwargs));
    }
    row
}

fn collimate(group: &PromptGroup) -> Map<String, Value> {
    let responses: Vec<Value> = group.responses.iter().map(|response| response.to_json().into()).collect();
    let mut row = Map::new();
    row.insert("prompt".to_owned(), json!(group.prompt));
    row.insert("responses".to_owned(), responses.into());
    insert_label(&mut row, group, group.chosen);
    row
}

/// Names the chosen response, by its index in the row, where the rewards do not.
fn insert_label(row: &mut Map<String, Value>, group: &PromptGroup, index: Option<usize>) {
    let Some((chosen, index)) = group.chosen.zip(index) else { return };
    let best = group.responses[chosen].reward;
    if group.responses.iter().filter(|response| response.reward >= best).count() > 1 {
        row.insert("chosen".to_owned(), json!(index));
    }
}

fn preference(group: &PromptGroup, pair: Pair) -> Map<String, Value> {
    let (chosen, rejected) = (&group.responses[pair.chosen], &group.responses[pair.rejected]);
    let completion = |response: &Response| match group.prompt {
        Prompt::Text(_) => json!(response.content),
        Prompt::Messages(_) => json!([response.message()]),
    };
    let mut row = Map::new();
    row.insert("prompt".to_owned(), json!(group.prompt));
    row.insert("chosen".to_owned(), completion(chosen));
    row.insert("rejected".to_owned(), completion(rejected));
    row.insert("score_chosen".to_owned(), json!(chosen.reward));
    row.insert("score_rejected".to_owned(), json!(rejected.reward));
    row
}

/// Best first, like the published set; whole conversations if the prompt is one.
fn ranked_set(group: &PromptGroup) -> Map<String, Value> {
    let mut order: Vec<usize> = (0..group.responses.len()).collect();
    order.sort_by(|&a, &b| group.responses[b].reward.total_cmp(&group.responses[a].reward));
    let mut row = Map::new();
    row.insert("prompt".to_owned(), json!(group.prompt));
    for (k, response) in order.iter().map(|&index| &group.responses[index]).enumerate() {
        let completion = match &group.prompt {
            Prompt::Text(_) => json!(response.content),
            Prompt::Messages(prompt) => {
                let mut messages = prompt.clone();
                messages.push(response.message());
                json!(messages)
            }
        };
        row.insert(format!("A{k}"), completion);
        row.insert(format!("score_A{k}"), json!(response.reward));
    }
    insert_label(&mut row, group, order.iter().position(|&index| Some(index) == group.chosen));
    row
}
