//! Why a well-formed row or a response of it is skipped.

use std::fmt;

use serde::Serialize;

/// Why a well-formed row, or one of its responses, cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The prompt is blank.
    EmptyPrompt,
    /// A response is blank.
    EmptyResponse,
    /// Fewer responses than [`LoadOptions::min_responses`](crate::LoadOptions::min_responses).
    TooFewResponses,
    /// A response lacks a rating that its reward needs.
    NoRating,
    /// The scores contradict the label, and such rows are dropped.
    ContradictedLabel,
    /// A response lacks its reward.
    NoReward,
    /// The chosen and the rejected dialogue have different prompts.
    PromptsDiffer,
    /// All responses to the prompt are labeled bad, where one is to be imitated.
    NoGoodResponse,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyPrompt => "empty prompt",
            Self::EmptyResponse => "empty response",
            Self::TooFewResponses => "too few responses",
            Self::NoRating => "no rating",
            Self::ContradictedLabel => "scores that contradict the label",
            Self::NoReward => "no reward",
            Self::PromptsDiffer => "prompts that differ",
            Self::NoGoodResponse => "no response labeled true",
        })
    }
}
