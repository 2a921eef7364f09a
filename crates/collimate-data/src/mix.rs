//! Mixes groups from several files: fractions, filters, duplicates, and a held-out part.
//!
//! Every draw depends only on the seed, its purpose and the file's name, so a recipe always selects the same groups.

mod draw;
mod duplicates;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{DataError, DataFiles, DataSource, LabelCounts, LoadOptions, PromptGroup};
use draw::draw;
pub use draw::hold_out;
pub use duplicates::Duplicates;

/// A file and the fraction of its groups to use.
#[derive(Debug, Clone, PartialEq)]
pub struct DataPart {
    /// The file.
    pub path: PathBuf,
    /// Fraction of the file's groups, in [0, 1]; at 0 the file is not opened.
    pub weight: f64,
}

impl DataPart {
    /// All groups of a file.
    pub fn whole(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), weight: 1.0 }
    }
}

/// How to mix the groups of several files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MixOptions {
    /// How to read each file. Its `max_samples` applies per file, [`MixOptions::max_samples`] to the total.
    pub load: LoadOptions,
    /// Drop groups whose best and worst reward differ by less than this.
    pub min_reward_gap: f64,
    /// Drop groups of several responses whose rewards are all equal.
    pub drop_ties: bool,
    /// Maximum number of groups from all files together.
    pub max_samples: Option<usize>,
    /// Seed of every draw.
    pub seed: u64,
}

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
        write!(f, "{}: {}", self.path.display(), self.description)?;
        for (count, why) in [(self.num_small_gaps, "below min_reward_gap"), (self.num_ties, "tied")] {
            if count > 0 {
                write!(f, "; {count} groups dropped: {why}")?;
            }
        }
        if self.num_left_out > 0 {
            write!(f, "; {} responses left out: they cannot be used", self.num_left_out)?;
        }
        if self.weight < 1.0 {
            write!(f, "; {} of {} groups used: weight {}", self.num_taken, self.num_usable, self.weight)?;
        }
        Ok(())
    }
}

/// The mixed groups in the order of the files, and an account of the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MixedGroups {
    /// The groups; `index` counts rows across all files read, `line` refers to the group's own file.
    pub groups: Vec<PromptGroup>,
    /// Finds a group's file by its index.
    pub files: DataFiles,
    /// What each file contributed.
    pub reports: Vec<FileReport>,
    /// Groups dropped by `max_samples`.
    pub num_over_limit: usize,
}

impl MixedGroups {
    /// Rows the loaders skipped.
    pub fn num_skipped(&self) -> usize {
        self.reports.iter().map(|report| report.num_skipped).sum()
    }
}

/// Reads files in order and selects the requested fraction of each. `progress` is called with 0 before a file is opened
/// and with 1 for every group read.
///
/// # Errors
/// A file or row cannot be used; the error names file, line and field.
pub fn read_mix(
    parts: &[DataPart],
    options: &MixOptions,
    progress: &mut dyn FnMut(&Path, usize),
) -> Result<MixedGroups, DataError> {
    let mut mixed = MixedGroups::default();
    let mut next_index = 0;
    for part in parts.iter().filter(|part| part.weight > 0.0) {
        progress(&part.path, 0);
        mixed.files.push(next_index, part.path.clone());
        let num_rows = read_part(part, options, next_index, &mut mixed, progress)?;
        next_index += num_rows;
    }
    if let Some(limit) = options.max_samples.filter(|limit| *limit < mixed.groups.len()) {
        mixed.num_over_limit = mixed.groups.len() - limit;
        let kept = draw(mixed.groups.len(), limit, options.seed, &["max_samples"]);
        mixed.groups = select(std::mem::take(&mut mixed.groups), &kept);
    }
    Ok(mixed)
}

/// Adds a file's groups to the mix; returns its number of rows.
fn read_part(
    part: &DataPart,
    options: &MixOptions,
    first_index: usize,
    mixed: &mut MixedGroups,
    progress: &mut dyn FnMut(&Path, usize),
) -> Result<usize, DataError> {
    let mut reader = DataSource::open(&part.path, &options.load)?;
    let mut report = FileReport { path: part.path.clone(), weight: part.weight, ..FileReport::default() };
    let mut groups = Vec::new();
    for group in reader.by_ref() {
        let mut group = group?;
        progress(&part.path, 1);
        if report.passes(&group, options) {
            group.index += first_index;
            groups.push(group);
        }
    }
    report.num_usable = groups.len();
    if part.weight < 1.0 {
        let name = part.path.file_name().unwrap_or_default().to_string_lossy();
        let count = (part.weight * groups.len() as f64).round() as usize;
        let kept = draw(groups.len(), count.max(1), options.seed, &["share", name.as_ref()]);
        groups = select(groups, &kept);
    }
    report.num_taken = groups.len();
    report.description = reader.describe().to_string();
    report.num_skipped = reader.counts().num_skipped();
    report.labels = reader.counts().labels.clone();
    report.num_left_out = reader.counts().num_left_out();
    mixed.reports.push(report);
    mixed.groups.append(&mut groups);
    Ok(reader.counts().num_rows)
}

impl FileReport {
    /// Whether a group passes the filters; counts it if not.
    fn passes(&mut self, group: &PromptGroup, options: &MixOptions) -> bool {
        let gap = reward_gap(group);
        let is_tied = options.drop_ties && group.responses.len() > 1 && gap == 0.0;
        let is_small = !is_tied && gap < options.min_reward_gap;
        self.num_ties += usize::from(is_tied);
        self.num_small_gaps += usize::from(is_small);
        !is_tied && !is_small
    }
}

/// Best reward minus worst reward.
fn reward_gap(group: &PromptGroup) -> f64 {
    let rewards = group.responses.iter().map(|response| response.reward);
    let (low, high) =
        rewards.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), reward| (low.min(reward), high.max(reward)));
    if high >= low { high - low } else { 0.0 }
}

/// The groups at `positions`, which must be sorted.
fn select(groups: Vec<PromptGroup>, positions: &[usize]) -> Vec<PromptGroup> {
    let mut positions = positions.iter().copied().peekable();
    let kept = groups.into_iter().enumerate().filter(|(i, _)| positions.next_if_eq(i).is_some());
    kept.map(|(_, group)| group).collect()
}
