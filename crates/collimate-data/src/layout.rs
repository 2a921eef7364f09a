//! Layouts: the forms in which a row holds a prompt, its responses and their scores.

mod collimate;
mod columns;
mod conversation;
pub(crate) mod node;
mod preference;
mod ranked_set;
mod rankings;
mod spec;
mod ultrafeedback;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::{ChatInputs, Prompt};
use node::{Node, RowError};
pub(crate) use preference::UNSCORED;
use spec::{LayoutSpec, Numbers};

/// Declares [`Layout`]: a line for each, in the order in which they are tried.
macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident => $spec:path,)*) => {
        /// The supported layouts, recognised by a row's fields.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Layout {
            $($(#[$doc])* $name,)*
        }

        impl Layout {
            /// All layouts, in the order they are tried.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];

            fn spec(self) -> &'static LayoutSpec {
                match self {
                    $(Self::$name => &$spec,)*
                }
            }
        }
    };
}

layouts! {
    /// This project's layout: `prompt`, `responses[].content`, `.reward`, and further numbers in `.scores`.
    Collimate => collimate::SPEC,
    /// The published reward set's layout: `A0`, `A1`, … with `score_A0`, `score_A1`, …, any number of them.
    RankedSet => ranked_set::SPEC,
    /// TRL's layout: `prompt`, `chosen`, `rejected` as text or messages, optionally `score_chosen` and `score_rejected`.
    /// The prompt may be implicit if both are whole conversations.
    Preference => preference::SPEC,
    /// `instruction`, `completions[].response` with `overall_score`, `fine-grained_score` or rated `annotations`.
    UltraFeedback => ultrafeedback::SPEC,
    /// `prompt`, `answers[].answer`, `.rank`; rank 1 is best.
    Nectar => rankings::NECTAR,
    /// `context` or `prompt`, `completions[].completion` (or `response`, `content`, `text`), `.rank`; rank 1 is best.
    Ranking => rankings::RANKING,
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
    /// The first of [`Self::ALL`] that matches a row's fields.
    pub fn detect(row: &Map<String, Value>) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| (layout.spec().matches)(row))
    }

    /// Its name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The fields a row needs, for messages.
    pub fn fields(self) -> &'static str {
        self.spec().fields
    }

    /// Whether high or low numbers are better. Declared by the layout, never guessed.
    pub fn direction(self) -> ScoreDirection {
        self.spec().numbers.direction()
    }

    /// Whether the numbers are ranks.
    pub fn has_ranks(self) -> bool {
        self.spec().numbers == Numbers::Ranks
    }

    /// What of a row becomes prompt, responses and rewards: a row of the documentation's table.
    pub fn table_row(self) -> [&'static str; 4] {
        let spec = self.spec();
        [spec.name, spec.prompt, spec.responses, spec.rewards]
    }

    /// Whether a layout reads this column, which others refuse.
    fn reads(self, _column: &str) -> bool {
        false
    }

    /// Parses a row.
    pub(crate) fn parse(self, row: &Value) -> Result<RawGroup, RowError> {
        let row = Node::root(row);
        let mut raw = (self.spec().parse)(&row)?;
        columns::add(&mut raw, &row, self)?;
        Ok(raw)
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

/// The prompt of a row that needs no responses, and what its chat template is given besides.
pub(crate) fn prompt_of(row: &Value) -> Result<(Prompt, ChatInputs), RowError> {
    let row = Node::root(row);
    let prompt = row.require("prompt", "a string or a list of messages")?.prompt()?;
    let mut raw = RawGroup { prompt, ..RawGroup::default() };
    columns::add_inputs(&mut raw, &row, Layout::Collimate)?;
    Ok((raw.prompt, raw.chat))
}

/// A parsed row, before its rewards are computed.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawGroup {
    pub(crate) prompt: Prompt,
    pub(crate) responses: Vec<RawResponse>,
    /// Where the numbers come from, such as `responses[].reward`; must be the same for every row of a file.
    pub(crate) signal_name: &'static str,
    /// Index of the response that the row labels the best, if it does.
    pub(crate) chosen: Option<usize>,
    /// What the chat template is given besides the messages; read for every layout alike.
    pub(crate) chat: ChatInputs,
}

/// A response of a parsed row.
#[derive(Debug, Clone, Default)]
pub(crate) struct RawResponse {
    pub(crate) content: String,
    /// What else the assistant's turn has, as [`crate::Message::fields`].
    pub(crate) fields: Map<String, Value>,
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
    /// The tokens that were sampled, if the row has them.
    pub(crate) token_ids: Option<Vec<u32>>,
}
