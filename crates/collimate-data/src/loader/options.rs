//! What a reader is told, what it tells, and what it counts.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::rewards::{Normalize, RewardFrom};
use crate::{Layout, ScoreDirection};

/// How a file is read.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadOptions {
    /// The rows' layout; by default recognised from the first row's fields.
    pub layout: Option<Layout>,
    /// Whether high or low numbers are better; by default what the layout declares.
    pub direction: Option<ScoreDirection>,
    /// What rewards are made from; by default [`RewardFrom::Rank`] for rankings, rated aspects where a row has nothing
    /// else, and else the layout's own number.
    pub reward_from: Option<RewardFrom>,
    /// What is done to a prompt's rewards then.
    pub normalize: Option<Normalize>,
    /// Count and pass over rows of no use (see [`SkipReason`]) instead of failing. Malformed rows fail all the same.
    pub skip_unusable: bool,
    /// Stop after so many groups.
    pub max_samples: Option<usize>,
    /// Fewest responses that a group must have: 2, or 1 where one response is enough (supervised training).
    pub min_responses: usize,
    /// Whether a response without a reward is refused; off, it counts as 0, for work that reads no rewards.
    pub needs_rewards: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            layout: None,
            direction: None,
            reward_from: None,
            normalize: None,
            skip_unusable: false,
            max_samples: None,
            min_responses: 2,
            needs_rewards: true,
        }
    }
}

/// Why a well-formed row is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The prompt holds nothing but white space.
    EmptyPrompt,
    /// A response holds nothing but white space.
    EmptyResponse,
    /// Fewer responses than asked for.
    TooFewResponses,
    /// A response without a rating that its reward needs.
    NoRating,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyPrompt => "empty prompt",
            Self::EmptyResponse => "empty response",
            Self::TooFewResponses => "too few responses",
            Self::NoRating => "no rating",
        })
    }
}

/// What a reader has seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LoadCounts {
    /// Rows read, blank lines aside.
    pub num_rows: usize,
    /// Groups given out.
    pub num_groups: usize,
    /// Rows that were errors.
    pub num_errors: usize,
    /// Rows passed over, by reason.
    pub skipped: BTreeMap<SkipReason, usize>,
    /// Preference rows whose chosen response has the lower score: the score direction may be wrong.
    pub num_chosen_scored_lower: usize,
}

impl LoadCounts {
    /// Rows passed over for whatever reason.
    pub fn num_skipped(&self) -> usize {
        self.skipped.values().sum()
    }
}

/// Where rewards come from, to be shown to the user.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceDescription {
    /// Layout of the rows.
    pub layout: Layout,
    /// Fields with the numbers, as `responses[].reward`.
    pub reward_source: String,
    /// Which numbers are better in the file.
    pub direction: ScoreDirection,
    /// What rewards are made from.
    pub reward_from: RewardFrom,
    /// What is done to a prompt's rewards then.
    pub normalize: Option<Normalize>,
}

impl fmt::Display for SourceDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layout, reward_source, direction, reward_from, normalize } = self;
        write!(f, "layout {layout}; rewards from {reward_source} ({direction}), by {reward_from}")?;
        normalize.map_or(Ok(()), |normalize| write!(f, ", then {normalize} per prompt"))
    }
}
