//! Rows in which a label and scores disagree about the best response.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::layout::node::RowError;
use crate::layout::raw::{RawGroup, RawResponse};
use crate::{SkipReason, counted};

/// What decides which response is the best where a row's label contradicts its scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelConflicts {
    /// The label. The score of the response that it names and the highest score are exchanged, for objectives that read
    /// rewards.
    #[default]
    Label,
    /// The scores; the label is ignored.
    Scores,
    /// Neither: such rows are left out.
    Drop,
}

impl LabelConflicts {
    /// All values, the default first.
    pub const ALL: [Self; 3] = [Self::Label, Self::Scores, Self::Drop];

    /// Its name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Scores => "scores",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for LabelConflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LabelConflicts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|value| value.name() == text);
        found.ok_or_else(|| format!("expected label, scores or drop, found \"{text}\""))
    }
}

/// How often labels and scores disagree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LabelCounts {
    /// Rows with a label and scores.
    pub num_labeled: usize,
    /// Rows in which a response scores higher than the one that the label names.
    pub num_contradicted: usize,
    /// File and line of the first of them.
    pub first_contradicted: Option<String>,
    /// Rows in which another response scores as high as the one that the label names, and none higher.
    pub num_tied: usize,
    /// File and line of the first of them.
    pub first_tied: Option<String>,
}

/// What scores say about a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The labeled response has the highest score.
    Agrees,
    /// It shares the highest score.
    Tied,
    /// Another scores higher.
    Contradicted,
}

impl Standing {
    /// Compares the score of the response `chosen` with the others'.
    fn compare(scores: &[f64], chosen: usize) -> Self {
        let others = || scores.iter().enumerate().filter(|(k, _)| *k != chosen).map(|(_, score)| *score);
        if others().any(|score| score > scores[chosen]) {
            Self::Contradicted
        } else if others().any(|score| score == scores[chosen]) {
            Self::Tied
        } else {
            Self::Agrees
        }
    }
}

impl LabelCounts {
    /// Counts a row at `place`.
    fn add(&mut self, standing: Standing, place: impl FnOnce() -> String) {
        self.num_labeled += 1;
        let (count, first) = match standing {
            Standing::Agrees => return,
            Standing::Tied => (&mut self.num_tied, &mut self.first_tied),
            Standing::Contradicted => (&mut self.num_contradicted, &mut self.first_contradicted),
        };
        *count += 1;
        first.get_or_insert_with(place);
    }

    /// What to tell the user: a line about rows that contradict themselves, and one about ties.
    pub fn lines(&self, conflicts: LabelConflicts) -> Vec<String> {
        let rows = |count: usize| counted(count, "row");
        let mut lines = Vec::new();
        if let Some(first) = &self.first_contradicted {
            let done = match conflicts {
                LabelConflicts::Label => "the label decides; its score and the highest are exchanged",
                LabelConflicts::Scores => "the scores decide",
                LabelConflicts::Drop => "left out",
            };
            let doubt = if 2 * self.num_contradicted > self.num_labeled { "; is higher_is_better right?" } else { "" };
            lines.push(format!(
                "warning: in {} of {} the scores contradict the label, the first {first}: {done} (label_conflicts: \
                 {conflicts}){doubt}",
                self.num_contradicted,
                rows(self.num_labeled),
            ));
        }
        if let Some(first) = &self.first_tied {
            let count = rows(self.num_tied);
            lines.push(format!(
                "in {count} the highest score is shared, the first {first}: the label names the best response"
            ));
        }
        lines
    }
}

/// Compares a row's label, if it has one, with its scores, counts it, and lets one of them decide.
///
/// # Errors
/// They disagree, and such rows are to be dropped.
pub(super) fn compare(
    raw: &mut RawGroup,
    scores: &mut [f64],
    conflicts: LabelConflicts,
    counts: &mut LabelCounts,
    place: impl FnOnce() -> String,
) -> Result<(), RowError> {
    let Some(chosen) = raw.chosen else { return Ok(()) };
    let standing = Standing::compare(scores, chosen);
    counts.add(standing, place);
    if standing == Standing::Contradicted && conflicts == LabelConflicts::Drop {
        let problem = "the scores contradict the label".to_owned();
        return Err(RowError::Unusable(SkipReason::ContradictedLabel, problem));
    }
    settle(raw, scores, conflicts);
    Ok(())
}

/// Makes the labeled response the best by score, and the first of those that share the highest.
fn settle(raw: &mut RawGroup, scores: &mut [f64], conflicts: LabelConflicts) {
    let Some(chosen) = raw.chosen else { return };
    let best = highest(scores);
    if Standing::compare(scores, chosen) == Standing::Contradicted {
        if conflicts == LabelConflicts::Scores {
            raw.chosen = Some(best);
            return;
        }
        scores.swap(chosen, best);
    }
    let first = highest(scores);
    if scores[first] == scores[chosen] && first != chosen {
        let responses: &mut Vec<RawResponse> = &mut raw.responses;
        responses.swap(first, chosen);
        raw.chosen = Some(first);
    }
}

/// Index of the highest score; among equal ones the first.
fn highest(scores: &[f64]) -> usize {
    (1..scores.len()).fold(0, |best, k| if scores[k] > scores[best] { k } else { best })
}
