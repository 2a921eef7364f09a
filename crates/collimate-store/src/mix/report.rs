//! What each file contributed to a mixture.

use std::fmt;
use std::path::PathBuf;

use collimate_data::{GroupReader, LabelCounts, PromptGroup, counted, either};

use super::{MixOptions, reward_gap};

/// What a file contributed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// Layout and source of the rewards, in words.
    pub description: String,
    /// Rows the loader skipped.
    pub num_skipped: usize,
    /// Responses the loader left out of the other rows.
    pub num_left_out: usize,
    /// Groups dropped by `min_reward_gap`.
    pub num_small_gaps: usize,
    /// Groups dropped by `drop_ties`.
    pub num_ties: usize,
    /// Groups left to draw from.
    pub num_usable: usize,
    /// Groups used.
    pub num_taken: usize,
    /// The requested fraction.
    pub weight: f64,
    /// How often labels and scores disagree.
    pub labels: LabelCounts,
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told_of(&self.path.display().to_string()))
    }
}

impl FileReport {
    /// What is said of the file, under this name.
    pub(crate) fn told_of(&self, name: &str) -> String {
        let mut told = format!("{name}: {}", self.description);
        for (count, why) in [(self.num_small_gaps, "below min_reward_gap"), (self.num_ties, "tied")] {
            if count > 0 {
                told += &format!("; {} dropped: {why}", counted(count, "group"));
            }
        }
        if self.num_left_out > 0 {
            told += &format!(
                "; {} left out: {} cannot be used",
                counted(self.num_left_out, "response"),
                either(self.num_left_out, "it", "they")
            );
        }
        if self.weight < 1.0 {
            told +=
                &format!("; {} of {} used: weight {}", self.num_taken, counted(self.num_usable, "group"), self.weight);
        }
        told
    }
}

/// Why a filter drops a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    Tied,
    SmallGap,
}

/// Which filter drops a group, if one does.
pub(super) fn dropped(group: &PromptGroup, options: &MixOptions) -> Option<Dropped> {
    let gap = reward_gap(group);
    if options.drop_ties && group.responses.len() > 1 && gap == 0.0 {
        Some(Dropped::Tied)
    } else if gap < options.min_reward_gap {
        Some(Dropped::SmallGap)
    } else {
        None
    }
}

impl FileReport {
    /// Whether a group passes the filters; counts it if not.
    pub(super) fn passes(&mut self, group: &PromptGroup, options: &MixOptions) -> bool {
        let dropped = dropped(group, options);
        self.num_ties += usize::from(dropped == Some(Dropped::Tied));
        self.num_small_gaps += usize::from(dropped == Some(Dropped::SmallGap));
        dropped.is_none()
    }

    /// Takes over what a reader says of its file at the end.
    pub(super) fn describe(&mut self, reader: &GroupReader) {
        self.description = reader.describe().to_string();
        self.num_skipped = reader.counts().num_skipped();
        self.labels = reader.counts().labels.clone();
        self.num_left_out = reader.counts().num_left_out();
    }
}
