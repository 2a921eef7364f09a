//! A reader's options, counts and description.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::labels::{LabelConflicts, LabelCounts};
use crate::{FieldMap, Layout, ScoreDirection, SkipReason};
use collimate_rewards::{Normalize, RewardFrom};

/// How to read a file.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// Layout of the rows; by default recognized from the fields of the first.
    pub layout: Option<Layout>,
    /// The fields to read instead of those of a layout.
    pub fields: Option<FieldMap>,
    /// Whether high or low numbers are better; by default as the layout declares.
    pub direction: Option<ScoreDirection>,
    /// How to compute rewards; by default [`RewardFrom::Rank`] for rankings, the mean of rated aspects for rows that have
    /// nothing else, and otherwise the layout's own number.
    pub reward_from: Option<RewardFrom>,
    /// How to normalize a prompt's rewards.
    pub normalize: Option<Normalize>,
    /// Leave out and count unusable responses, and rows of which too few remain (see [`SkipReason`]), instead of failing.
    /// Malformed rows always fail.
    pub skip_unusable: bool,
    /// Stop after this many groups.
    pub max_samples: Option<usize>,
    /// Minimum number of responses per group: 2, or 1 if a single response is enough (supervised training).
    pub min_responses: usize,
    /// Most responses that a group may have; rows with more are refused. `None` for no limit.
    pub most_responses: Option<MostResponses>,
    /// What decides where a row's label contradicts its scores.
    pub label_conflicts: LabelConflicts,
    /// Fields that are ignored wherever a row, its messages or its responses have them.
    pub ignore_fields: Vec<String>,
    /// Refuse responses without a reward. If false they get reward 0, for uses that ignore rewards.
    pub needs_rewards: bool,
    /// Refuse groups whose responses are all labeled bad, for objectives that imitate one.
    pub needs_good_response: bool,
}

/// A limit on the responses of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MostResponses {
    /// The limit.
    pub count: usize,
    /// What has the limit, for messages: `the objective "dpo"`.
    pub of: String,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            layout: None,
            fields: None,
            direction: None,
            reward_from: None,
            normalize: None,
            skip_unusable: false,
            max_samples: None,
            min_responses: 2,
            most_responses: None,
            label_conflicts: LabelConflicts::Label,
            ignore_fields: Vec::new(),
            needs_rewards: true,
            needs_good_response: false,
        }
    }
}

/// Counts of a reader so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LoadCounts {
    /// Rows read, not counting blank lines.
    pub num_rows: usize,
    /// Groups returned.
    pub num_groups: usize,
    /// Rows that failed.
    pub num_errors: usize,
    /// Rows skipped, by reason.
    pub skipped: BTreeMap<SkipReason, usize>,
    /// How often a row's label and its scores disagree. A score direction that is wrong shows here.
    pub labels: LabelCounts,
    /// Responses left out of groups that are used, by reason.
    pub left_out: BTreeMap<SkipReason, usize>,
}

impl LoadCounts {
    /// Rows skipped for any reason.
    pub fn num_skipped(&self) -> usize {
        self.skipped.values().sum()
    }

    /// Responses left out for any reason.
    pub fn num_left_out(&self) -> usize {
        self.left_out.values().sum()
    }
}

/// How a file is interpreted, to show to the user.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceDescription {
    /// Layout of the rows, unless `fields` are read.
    pub layout: Layout,
    /// The fields that are read instead.
    pub fields: Option<FieldMap>,
    /// Fields that hold the numbers, such as `responses[].reward`.
    pub reward_source: String,
    /// Whether high or low numbers are better in the file.
    pub direction: ScoreDirection,
    /// How rewards are computed.
    pub reward_from: RewardFrom,
    /// How a prompt's rewards are normalized.
    pub normalize: Option<Normalize>,
}

impl SourceDescription {
    /// `signal_name` says where the layout's own numbers are, once a row was read.
    pub(super) fn new(
        options: &LoadOptions,
        layout: Layout,
        direction: ScoreDirection,
        reward_from: Option<RewardFrom>,
        signal_name: Option<&str>,
    ) -> Self {
        let fallback = if layout.has_ranks() { RewardFrom::Rank } else { RewardFrom::Field { name: None } };
        let reward_from = reward_from.unwrap_or(fallback);
        let reward_source = match &reward_from {
            RewardFrom::Field { name: Some(name) } => name.clone(),
            RewardFrom::Aspects { .. } => "rated aspects".to_owned(),
            _ => signal_name.unwrap_or("the layout's numbers").to_owned(),
        };
        let (fields, normalize) = (options.fields.clone(), options.normalize);
        Self { layout, fields, reward_source, direction, reward_from, normalize }
    }
}

impl fmt::Display for SourceDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fields {
            Some(fields) => write!(f, "{fields}")?,
            None => write!(f, "layout {}", self.layout)?,
        }
        let Self { reward_source, direction, reward_from, normalize, .. } = self;
        write!(f, "; rewards from {reward_source} ({direction}), by {reward_from}")?;
        normalize.map_or(Ok(()), |normalize| write!(f, ", then {normalize} per prompt"))
    }
}
