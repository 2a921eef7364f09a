//! Layouts: the forms in which a row holds a prompt, its responses and their scores.

mod collimate;
mod conversation;
pub(crate) mod node;
mod preference;
mod ranked_set;
mod rankings;
mod ultrafeedback;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::Prompt;
use node::{Node, RowError};

/// The supported layouts, recognised by a row's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// This project's layout: `prompt`, `responses[].content`, `.reward`, and further numbers in `.scores`.
    Collimate,
    /// TRL's layout: `prompt`, `chosen`, `rejected` as text or messages, optionally `score_chosen` and `score_rejected`.
    /// The prompt may be implicit if both are whole conversations.
    Preference,
    /// The published reward set's layout: `A0`, `A1`, … with `score_A0`, `score_A1`, …, any number of them.
    RankedSet,
    /// `instruction`, `completions[].response` with `overall_score`, `fine-grained_score` or rated `annotations`.
    UltraFeedback,
    /// `prompt`, `answers[].answer`, `.rank`; rank 1 is best.
    Nectar,
    /// `context` or `prompt`, `completions[].completion` (or `response`, `content`, `text`), `.rank`; rank 1 is best.
    Ranking,
}

/// Whether high or low numbers are better in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreDirection {
    /// As for scores.
    HigherIsBetter,
    /// As for ranks and losses.
    LowerIsBetter,
}

impl fmt::Display for ScoreDirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HigherIsBetter => "higher is better",
            Self::LowerIsBetter => "lower is better",
        })
    }
}

impl Layout {
    /// All layouts, in the order they are tried.
    pub const ALL: [Self; 6] =
        [Self::Collimate, Self::RankedSet, Self::Preference, Self::UltraFeedback, Self::Nectar, Self::Ranking];

    /// The first of [`Self::ALL`] that matches a row's fields.
    pub fn detect(row: &Map<String, Value>) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.matches(row))
    }

    /// Its name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Collimate => "collimate",
            Self::Preference => "preference",
            Self::RankedSet => "ranked_set",
            Self::UltraFeedback => "ultrafeedback",
            Self::Nectar => "nectar",
            Self::Ranking => "ranking",
        }
    }

    /// The fields a row needs, for messages.
    pub fn fields(self) -> &'static str {
        match self {
            Self::Collimate => "prompt, responses[].content, responses[].reward",
            Self::Preference => "prompt (or implicit in conversations), chosen, rejected",
            Self::RankedSet => "A0, A1, … and score_A0, score_A1, …",
            Self::UltraFeedback => "instruction, completions[].response, completions[].overall_score",
            Self::Nectar => "prompt, answers[].answer, answers[].rank",
            Self::Ranking => "context or prompt, completions[].completion, completions[].rank",
        }
    }

    /// Whether high or low numbers are better. Declared by the layout, never guessed.
    pub fn direction(self) -> ScoreDirection {
        match self {
            Self::Nectar | Self::Ranking => ScoreDirection::LowerIsBetter,
            _ => ScoreDirection::HigherIsBetter,
        }
    }

    /// Whether the numbers are ranks.
    pub fn has_ranks(self) -> bool {
        matches!(self, Self::Nectar | Self::Ranking)
    }

    fn matches(self, row: &Map<String, Value>) -> bool {
        let has = |key: &str| row.contains_key(key);
        match self {
            Self::Collimate => has("responses"),
            Self::Preference => has("chosen") && has("rejected"),
            Self::RankedSet => has("A0") && has("score_A0"),
            Self::UltraFeedback => has("instruction") && has("completions"),
            Self::Nectar => has("prompt") && has("answers"),
            Self::Ranking => (has("prompt") || has("context")) && has("completions"),
        }
    }

    /// Parses a row.
    pub(crate) fn parse(self, row: &Value) -> Result<RawGroup, RowError> {
        let row = Node::root(row);
        match self {
            Self::Collimate => collimate::parse(&row),
            Self::Preference => preference::parse(&row),
            Self::RankedSet => ranked_set::parse(&row),
            Self::UltraFeedback => ultrafeedback::parse(&row),
            Self::Nectar => rankings::parse_nectar(&row),
            Self::Ranking => rankings::parse_ranking(&row),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|layout| layout.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|layout| layout.name()).collect();
            format!("\"{text}\" is not a layout; there are {}", names.join(", "))
        })
    }
}

/// A parsed row, before its rewards are computed.
#[derive(Debug, Clone)]
pub(crate) struct RawGroup {
    pub(crate) prompt: Prompt,
    pub(crate) responses: Vec<RawResponse>,
    /// Where the numbers come from, such as `responses[].reward`; must be the same for every row of a file.
    pub(crate) signal_name: &'static str,
}

/// A response of a parsed row.
#[derive(Debug, Clone)]
pub(crate) struct RawResponse {
    pub(crate) content: String,
    /// Path of the response in its row, for messages.
    pub(crate) field: String,
    /// The layout's own number: a score, or a rank if [`Layout::has_ranks`].
    pub(crate) signal: Option<f64>,
    /// Path of that number, whether it exists or not.
    pub(crate) signal_field: String,
    /// Ratings of aspects, by name.
    pub(crate) aspects: BTreeMap<String, f64>,
    /// The response's other numbers, by name.
    pub(crate) others: BTreeMap<String, f64>,
}
