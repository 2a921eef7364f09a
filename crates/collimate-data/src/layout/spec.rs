//! What a layout's file declares about it.

use serde_json::{Map, Value};

use super::ScoreDirection;
use super::node::{Node, RowError};
use super::raw::RawGroup;

/// A layout, as its file declares it.
pub(super) struct LayoutSpec {
    /// Its name in recipes and on the command line.
    pub(super) name: &'static str,
    /// The fields a row needs, for messages.
    pub(super) fields: &'static str,
    /// What becomes the prompt, for the documentation.
    pub(super) prompt: &'static str,
    /// What becomes the responses, for the documentation.
    pub(super) responses: &'static str,
    /// What becomes the rewards, for the documentation.
    pub(super) rewards: &'static str,
    /// Whether the numbers are scores or ranks. Declared, never guessed.
    pub(super) numbers: Numbers,
    /// Columns that it reads and others refuse, of those in `columns.rs`.
    pub(super) reads: &'static [&'static str],
    /// Whether a row has the fields that tell this layout from the later ones. In files with columns a value is null if the
    /// first row has none.
    pub(super) matches: fn(&Map<String, Value>) -> bool,
    /// Parses a row.
    pub(super) parse: fn(&Node) -> Result<RawGroup, RowError>,
}

/// What a layout's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Higher is better.
    Scores,
    /// 1 is the best.
    Ranks,
}

impl Numbers {
    /// Whether high or low numbers are better.
    pub(super) fn direction(self) -> ScoreDirection {
        match self {
            Self::Scores => ScoreDirection::HigherIsBetter,
            Self::Ranks => ScoreDirection::LowerIsBetter,
        }
    }
}

/// Whether a row has all of these fields.
pub(super) fn has(row: &Map<String, Value>, keys: &[&str]) -> bool {
    keys.iter().all(|key| row.contains_key(*key))
}

/// Whether a row has one of these fields.
pub(super) fn has_any(row: &Map<String, Value>, keys: &[&str]) -> bool {
    keys.iter().any(|key| row.contains_key(*key))
}
