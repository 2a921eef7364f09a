//! Groups of several files: shares of each, filters, duplicates, and a part held out.
//!
//! Every draw is a function of the seed, its purpose and the file's name, so the same recipe gives the same groups.

mod draw;
mod duplicates;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{DataError, DataSource, LoadOptions, PromptGroup};
use draw::draw;
pub use draw::hold_out;
pub use duplicates::Duplicates;

/// A file and the share of its groups that is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct DataPart {
    /// The file.
    pub path: PathBuf,
    /// Share of the file's groups, in [0, 1]; 1 takes all, 0 does not open the file.
    pub weight: f64,
}

impl DataPart {
    /// All groups of a file.
    pub fn whole(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), weight: 1.0 }
    }
}

/// How the groups of several files become one list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MixOptions {
    /// How each file is read. Its `max_samples` bounds each file, [`MixOptions::max_samples`] all of them.
    pub load: LoadOptions,
    /// Smallest difference of the best and the worst reward of a group that is kept.
    pub min_reward_gap: f64,
    /// Leave out groups of several responses whose rewards are all equal.
    pub drop_ties: bool,
    /// Most groups of all files together.
    pub max_samples: Option<usize>,
    /// Seed of every draw.
    pub seed: u64,
}

/// The files of a list of groups: by [`PromptGroup::index`] each group's file is found again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataFiles {
    /// Each file with the index of its first row, in the order of the indices.
    starts: Vec<(usize, PathBuf)>,
}

impl DataFiles {
    /// The files of groups that all come from one.
    pub fn one(path: impl Into<PathBuf>) -> Self {
        Self { starts: vec![(0, path.into())] }
    }

    /// A further file, whose rows begin at this index.
    pub(crate) fn push(&mut self, start: usize, path: impl Into<PathBuf>) {
        self.starts.push((start, path.into()));
    }

    /// The file of the group with this index.
    pub fn path(&self, index: usize) -> &Path {
        let after = self.starts.partition_point(|(start, _)| *start <= index);
        after.checked_sub(1).map_or(Path::new(""), |at| &self.starts[at].1)
    }

    /// File and line of a group, as errors say it.
    pub fn place(&self, index: usize, line: usize) -> String {
        format!("{}:{line}", self.path(index).display())
    }
}

/// What was taken of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// Layout and source of the rewards, for people.
    pub description: String,
    /// Rows that the loader passed over.
    pub num_skipped: usize,
    /// Groups left out for `min_reward_gap`.
    pub num_small_gaps: usize,
    /// Groups left out for `drop_ties`.
    pub num_ties: usize,
    /// Groups that were left to draw from.
    pub num_usable: usize,
    /// Groups that were taken.
    pub num_taken: usize,
    /// The share that was asked for.
    pub weight: f64,
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.description)?;
        for (count, why) in [(self.num_small_gaps, "below min_reward_gap"), (self.num_ties, "tied")] {
            if count > 0 {
                write!(f, "; {count} groups left out: {why}")?;
            }
        }
        if self.weight < 1.0 {
            write!(f, "; {} of {} groups taken: weight {}", self.num_taken, self.num_usable, self.weight)?;
        }
        Ok(())
    }
}

/// Groups of several files in the order of the files, and what became of the rest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MixedGroups {
    /// The groups; `index` counts the rows of all files that were read, `line` is that of the group's own file.
    pub groups: Vec<PromptGroup>,
    /// The files, by the groups' index.
    pub files: DataFiles,
    /// What was taken of each file.
    pub reports: Vec<FileReport>,
    /// Groups that `max_samples` left out.
    pub num_over_limit: usize,
}

impl MixedGroups {
    /// Rows that the loaders passed over.
    pub fn num_skipped(&self) -> usize {
        self.reports.iter().map(|report| report.num_skipped).sum()
    }
}

/// Reads files one after the other and takes of each its share; `progress` hears of a file before it is opened (with 0)
/// and of every group read.
///
/// # Errors
/// The first file or row that cannot be used, by file, line and field.
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

/// Adds a file's share; returns how many rows the file has.
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
        let share = (part.weight * groups.len() as f64).round() as usize;
        let kept = draw(groups.len(), share.max(1), options.seed, &["share", name.as_ref()]);
        groups = select(groups, &kept);
    }
    report.num_taken = groups.len();
    report.description = reader.describe().to_string();
    report.num_skipped = reader.counts().num_skipped();
    mixed.reports.push(report);
    mixed.groups.append(&mut groups);
    Ok(reader.counts().num_rows)
}

impl FileReport {
    /// Whether the filters let a group through; counts it where they do not.
    fn passes(&mut self, group: &PromptGroup, options: &MixOptions) -> bool {
        let gap = reward_gap(group);
        let is_tied = options.drop_ties && group.responses.len() > 1 && gap == 0.0;
        let is_small = !is_tied && gap < options.min_reward_gap;
        self.num_ties += usize::from(is_tied);
        self.num_small_gaps += usize::from(is_small);
        !is_tied && !is_small
    }
}

/// Best reward less the worst.
fn reward_gap(group: &PromptGroup) -> f64 {
    let rewards = group.responses.iter().map(|response| response.reward);
    let (low, high) =
        rewards.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), reward| (low.min(reward), high.max(reward)));
    if high >= low { high - low } else { 0.0 }
}

/// The groups at these places, in their order; `places` ascend.
fn select(groups: Vec<PromptGroup>, places: &[usize]) -> Vec<PromptGroup> {
    let mut places = places.iter().copied().peekable();
    let kept = groups.into_iter().enumerate().filter(|(at, _)| places.next_if_eq(at).is_some());
    kept.map(|(_, group)| group).collect()
}
