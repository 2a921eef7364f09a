//! Writes groups in another layout.

use std::path::Path;

use collimate_rewards::{Pair, PairRule, num_pairs, pairs};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{DataError, GroupReader, Layout, MAX_LINE_BYTES, Prompt, PromptGroup, Response, RowWriter};

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

/// Pairs that one group may become; of 2,896 responses with rewards that all differ.
const MAX_PAIRS: usize = 1 << 22;

/// Writes groups to `path` as JSON Lines, atomically. Memory holds one group and one row of output.
///
/// # Errors
/// The first error in `groups`; a group that would become more than 4,194,304 pairs, or a row longer than can be read again
/// ([`MAX_LINE_BYTES`]); a write error. `path` then stays as it was.
pub fn convert(groups: &mut GroupReader, path: impl AsRef<Path>, to: ConvertTo) -> Result<ConvertReport, DataError> {
    let path = path.as_ref();
    if path.file_name().is_none() {
        return Err(DataError::File { path: path.to_owned(), problem: "this is not the name of a file".to_owned() });
    }
    let mut writer = RowWriter::create(path)?;
    let mut report = ConvertReport::default();
    while let Some(group) = groups.next() {
        let group = group?;
        if let Some(problem) = excess(&group, to) {
            let path = groups.files().path(group.index).to_owned();
            return Err(DataError::Row { path, line: group.line, problem });
        }
        let before = writer.num_rows();
        let mut push = |row| writer.push(&Value::Object(with_chat_inputs(row, &group)));
        match to {
            ConvertTo::Collimate => push(collimate(&group))?,
            ConvertTo::RankedSet => push(ranked_set(&group))?,
            ConvertTo::Preference(rule) => {
                let rewards = rewards(&group);
                pairs_of(&group, &rewards, rule).try_for_each(|pair| push(preference(&group, pair)))?;
            }
        }
        report.num_groups += 1;
        report.num_without_pairs += usize::from(writer.num_rows() == before);
    }
    report.num_rows = writer.num_rows();
    writer.commit()?;
    Ok(report)
}

/// Why a group becomes more than is written, if it does.
fn excess(group: &PromptGroup, to: ConvertTo) -> Option<String> {
    let num_responses = group.responses.len();
    match (to, &group.prompt) {
        (ConvertTo::Preference(rule), _) => {
            let count = num_pairs(&rewards(group), rule);
            let what = format!(
                "its {num_responses} responses make {count} pairs, and at most {MAX_PAIRS} are written for a prompt; \
                 choose another rule or a greater margin"
            );
            (count > MAX_PAIRS).then_some(what)
        }
        (ConvertTo::RankedSet, Prompt::Messages(messages)) => {
            // Each response comes with the whole conversation.
            let prompt: usize = messages.iter().map(|message| message.content.len()).sum();
            let responses: usize = group.responses.iter().map(|response| response.content.len()).sum();
            let bytes = prompt.saturating_mul(num_responses).saturating_add(responses);
            let what = format!(
                "with its prompt before each of {num_responses} responses the row has {bytes} bytes, more than the \
                 {MAX_LINE_BYTES} that are read; the layout collimate has the prompt once"
            );
            (bytes > MAX_LINE_BYTES).then_some(what)
        }
        _ => None,
    }
}

fn rewards(group: &PromptGroup) -> Vec<f64> {
    group.responses.iter().map(|response| response.reward).collect()
}

/// The pairs of a group. If its scores are equal and a label names the better response, the label makes the pair.
fn pairs_of<'a>(group: &PromptGroup, rewards: &'a [f64], rule: PairRule) -> impl Iterator<Item = Pair> + use<'a> {
    let needs_a_gap = matches!(rule, PairRule::AllPairs { margin } if margin > 0.0);
    let is_tied = rewards.len() > 1 && rewards.iter().all(|reward| *reward == rewards[0]) && !needs_a_gap;
    let labeled = group.chosen.filter(|_| is_tied);
    let worse = |chosen: usize| (0..rewards.len()).rfind(|k| *k != chosen).map(|rejected| Pair { chosen, rejected });
    let scored = if labeled.is_none() { rewards } else { &[] };
    labeled.and_then(worse).into_iter().chain(pairs(scored, rule, group.index))
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
        Prompt::Messages(_) => json!(response.messages()),
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
                messages.extend(response.messages());
                json!(messages)
            }
        };
        row.insert(format!("A{k}"), completion);
        row.insert(format!("score_A{k}"), json!(response.reward));
    }
    insert_label(&mut row, group, order.iter().position(|&index| Some(index) == group.chosen));
    row
}
