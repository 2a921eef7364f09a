//! Layouts: the forms in which a row holds a prompt, its responses and their scores.

mod alpaca;
mod chat;
mod collimate;
mod columns;
mod conversation;
mod dialogue;
pub(crate) mod fields;
mod helpsteer;
mod hh_rlhf;
mod kto;
pub(crate) mod node;
mod pictures;
mod pku;
mod preference;
mod ranked_set;
mod rankings;
mod rated;
pub(crate) mod raw;
pub(crate) mod scored_lists;
mod spec;
mod stack_exchange;
mod ultrafeedback;

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::{ChatInputs, Prompt};
use node::{Node, RowError};
pub use pictures::condition_of;
use raw::RawGroup;
use spec::{LayoutSpec, Numbers};

/// Declares [`Layout`]: a line for each, in the order in which they are tried.
macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident => $spec:path,)*) => {
        /// The supported layouts, recognized by a row's fields.
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
    /// A list of texts and a list of numbers: `completions` (or `responses`, …) with `rewards` or `scores`.
    ScoredLists => scored_lists::SPEC,
    /// The same with ranks: `completions` (or `responses`, …) with `ranks` or `rank`; rank 1 is best.
    RankedLists => scored_lists::RANKED,
    /// The published reward set's layout: `A0`, `A1`, … with `score_A0`, `score_A1`, …, any number of them.
    RankedSet => ranked_set::SPEC,
    /// Anthropic's hh-rlhf: `chosen` and `rejected` as whole dialogues in text.
    HhRlhf => hh_rlhf::SPEC,
    /// UltraInteract: `trajectory` with `chosen` and `rejected`.
    UltraInteract => chat::ULTRA_INTERACT,
    /// ShareGPT: `conversations`, also with `chosen` and `rejected`, or a label.
    ShareGpt => chat::SHAREGPT,
    /// `messages` that end with a response, also with ms-swift's `rejected_response`, `rejected_messages` or a label.
    Messages => chat::MESSAGES,
    /// Alpaca: `instruction`, `input`, `output`, also with `chosen` and `rejected`, two outputs, or a label.
    Alpaca => alpaca::SPEC,
    /// TRL's layout: `prompt`, `chosen`, `rejected` as text or messages, optionally `score_chosen` and `score_rejected`.
    /// The prompt may be implicit if both are whole conversations.
    Preference => preference::SPEC,
    /// `instruction`, `completions[].response` with `overall_score`, `fine-grained_score` or rated `annotations`.
    UltraFeedback => ultrafeedback::SPEC,
    /// `prompt`, `answers[].answer`, `.rank`; rank 1 is best.
    Nectar => rankings::NECTAR,
    /// `context` or `prompt`, `completions[].completion` (or `response`, `content`, `text`), `.rank`; rank 1 is best.
    Ranking => rankings::RANKING,
    /// HelpSteer and HelpSteer 2: one `response` a row with five ratings.
    HelpSteer2 => helpsteer::RATINGS,
    /// The preferences of HelpSteer 2: `response_1`, `response_2`, `preference_strength`.
    HelpSteer2Preference => helpsteer::PREFERENCE_2,
    /// HelpSteer 3: `context`, `response1`, `response2`, `overall_preference`.
    HelpSteer3 => helpsteer::PREFERENCE_3,
    /// PKU-SafeRLHF: `response_0`, `response_1`, `better_response_id`, `safer_response_id`.
    PkuSafeRlhf => pku::SPEC,
    /// Stack Exchange: `question` with `response_j` and `response_k`, or with `answers[].text` and `.pm_score`.
    StackExchange => stack_exchange::SPEC,
    /// TRL's unpaired preferences: `prompt`, `completion`, `label`.
    Kto => kto::KTO,
    /// One rated response a row: `prompt`, `completion` (or `response`), `reward` (or `score`).
    Rated => rated::SPEC,
    /// TRL's demonstrations: `prompt`, `completion`.
    PromptCompletion => kto::PROMPT_COMPLETION,
    /// Pictures as tokens: `condition` and `tokens`, or `responses[].tokens` with `.reward`.
    Pictures => pictures::SPEC,
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
    fn reads(self, column: &str) -> bool {
        self.spec().reads.contains(&column)
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
    let prompt = match row.get("prompt").is_none() && row.get("condition").is_some() {
        true => pictures::prompt(&row)?,
        false => row.require("prompt", "a string or a list of messages")?.prompt()?,
    };
    let mut raw = RawGroup { prompt, ..RawGroup::default() };
    columns::add_inputs(&mut raw, &row, Layout::Collimate)?;
    Ok((raw.prompt, raw.chat))
}
