//! Selects groups from several files: fractions, filters, a limit, and a held-out part.
//!
//! A first pass reads every row, so that each error of the data is found before anything else is done, and keeps a few bytes
//! of each group; a second pass returns the groups that are used. Every draw depends only on the seed, its purpose and the
//! file's name, so a recipe always selects the same groups.

mod draw;
mod input;
mod report;
mod rows;
mod selected;

use std::path::Path;

use collimate_data::{DataError, DataFiles, DataPart, LoadOptions, PromptGroup};
use collimate_files::SpoolFolder;

use crate::bits::Bits;
use draw::draw;
use input::Input;
pub use report::FileReport;
use rows::{By, RowTable};
pub use selected::{Part, SelectedGroups};

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

/// Groups with the same prompt and responses as an earlier one, whatever their rewards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duplicates {
    /// Number of groups that repeat an earlier one.
    pub count: usize,
    /// Index and line of the first such group, and of the one that it repeats; [`Selection::files`] finds their files.
    pub first: Option<((usize, usize), (usize, usize))>,
}

/// Which groups of several files are used, and an account of the others. Holds no text: a bit for each group, and a table
/// that is in a private file once it is large.
#[derive(Debug)]
pub struct Selection {
    inputs: Vec<Input>,
    options: MixOptions,
    table: RowTable,
    files: DataFiles,
    reports: Vec<FileReport>,
    num_over_limit: usize,
    /// The groups that are used, by their position among those that pass the filters.
    used: Bits,
    /// Those of them that are held out.
    held_out: Bits,
}

impl Selection {
    /// Reads files in order and draws the requested fraction of each. `progress` is called with 0 before a file is opened and
    /// with 1 for every group read; tables too large for memory are kept in `place`.
    ///
    /// # Errors
    /// A file or row cannot be used; the error names file, line and field.
    pub fn read(
        parts: &[DataPart],
        options: &MixOptions,
        folder: &SpoolFolder,
        progress: &mut dyn FnMut(&Path, usize),
    ) -> Result<Self, DataError> {
        let mut selection = Self {
            inputs: Vec::new(),
            options: options.clone(),
            table: RowTable::new(folder),
            files: DataFiles::default(),
            reports: Vec::new(),
            num_over_limit: 0,
            used: Bits::default(),
            held_out: Bits::default(),
        };
        let mut next_index = 0;
        for part in parts.iter().filter(|part| part.weight > 0.0) {
            progress(&part.path, 0);
            selection.files.push(next_index, part.path.clone());
            next_index += selection.read_part(part, next_index, folder, progress)?;
        }
        let num_groups = selection.num_used();
        if let Some(limit) = options.max_samples.filter(|limit| *limit < num_groups) {
            selection.num_over_limit = num_groups - limit;
            let kept = draw(num_groups as u32, limit, options.seed, &["max_samples"]);
            selection.keep_ranks(&kept);
        }
        selection.held_out = Bits::none(selection.used.len());
        Ok(selection)
    }

    /// Counts a file's groups; returns its number of rows.
    fn read_part(
        &mut self,
        part: &DataPart,
        first_index: usize,
        folder: &SpoolFolder,
        progress: &mut dyn FnMut(&Path, usize),
    ) -> Result<usize, DataError> {
        let input = Input::open(&part.path, first_index, folder)?;
        let mut reader = input.reader(&self.options.load)?;
        let mut report = FileReport { path: part.path.clone(), weight: part.weight, ..FileReport::default() };
        let first_position = self.table.len();
        for group in reader.by_ref() {
            let mut group = group?;
            progress(&part.path, 1);
            if report.passes(&group, &self.options) {
                group.index += first_index;
                // Where the data is must not decide what is held out, or what is the same.
                group.prompt.unplace_images(folder_of(&part.path));
                self.table.push(&group)?;
                self.used.push(true);
            }
        }
        input.check_unchanged()?;
        // Positions are numbers of 32 bits, which halves what shuffling them takes.
        if u32::try_from(self.table.len()).is_err() {
            let problem = format!("more than {} groups", u32::MAX);
            return Err(DataError::File { path: part.path.clone(), problem });
        }
        report.num_usable = self.table.len() - first_position;
        report.num_taken = report.num_usable;
        if part.weight < 1.0 {
            let name = part.path.file_name().unwrap_or_default().to_string_lossy();
            let count = ((part.weight * report.num_usable as f64).round() as usize).max(1);
            let drawn = draw(report.num_usable as u32, count, self.options.seed, &["share", name.as_ref()]);
            (0..report.num_usable).for_each(|rank| self.used.set(first_position + rank, drawn.get(rank)));
            report.num_taken = drawn.count();
        }
        report.describe(&reader);
        self.reports.push(report);
        self.inputs.push(input);
        Ok(reader.counts().num_rows)
    }

    /// Uses only those groups whose rank among the used ones is in `kept`.
    fn keep_ranks(&mut self, kept: &Bits) {
        let mut rank = 0;
        for position in 0..self.used.len() {
            if self.used.get(position) {
                self.used.set(position, kept.get(rank));
                rank += 1;
            }
        }
    }

    /// Splits off a `fraction` of the used groups, rounded, at least one. Groups with the same prompt stay together, so that
    /// there may be slightly more; both parts keep their order.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn hold_out(&mut self, fraction: f64) -> Result<(), DataError> {
        let mut first_with_prompt: Vec<u32> = (0..self.num_used() as u32).collect();
        self.table.for_each_equal(By::Prompt, &self.used, |equal| {
            equal.iter().for_each(|group| first_with_prompt[group.rank as usize] = equal[0].rank);
        })?;
        let chosen = draw::hold_out(first_with_prompt, fraction, self.options.seed);
        let mut rank = 0;
        for position in 0..self.used.len() {
            if self.used.get(position) {
                self.held_out.set(position, chosen.get(rank));
                rank += 1;
            }
        }
        Ok(())
    }

    /// Counts exact duplicates among the used groups: the same prompt with the same responses in the same order.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn duplicates(&self) -> Result<Duplicates, DataError> {
        let (mut count, mut first) = (0, None);
        self.table.for_each_equal(By::Text, &self.used, |equal| {
            count += equal.len() - 1;
            let repeated = (equal[1].position as usize, equal[0].position as usize);
            first = first.into_iter().chain([repeated]).min();
        })?;
        let row = |position| self.table.row(position).map(|row| (row.index, row.line));
        let rows = |(repeated, earlier)| Ok::<_, DataError>((row(repeated)?, row(earlier)?));
        Ok(Duplicates { count, first: first.map(rows).transpose()? })
    }

    /// How many prompts of a part are text rather than messages, and the file and line of the first.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn text_prompts(&self, part: Part) -> Result<Option<(usize, String)>, DataError> {
        let texts = |position: &usize| self.part_of(*position) == Some(part) && self.table.is_text.get(*position);
        let Some(first) = (0..self.used.len()).find(texts) else { return Ok(None) };
        Ok(Some(((first..self.used.len()).filter(texts).count(), self.location(first)?)))
    }

    fn location(&self, position: usize) -> Result<String, DataError> {
        let row = self.table.row(position)?;
        Ok(self.files.location(row.index, row.line))
    }

    /// The part that the group at a position belongs to; `None` if it is not used.
    fn part_of(&self, position: usize) -> Option<Part> {
        let part = if self.held_out.get(position) { Part::HeldOut } else { Part::Training };
        self.used.get(position).then_some(part)
    }

    /// Reads the used groups again, in order.
    pub fn groups(&self) -> SelectedGroups<'_> {
        SelectedGroups::new(self)
    }

    /// Groups that are used, in both parts.
    pub fn num_used(&self) -> usize {
        self.used.count()
    }

    /// Groups of a part.
    pub fn num_groups(&self, part: Part) -> usize {
        let held_out = self.held_out.and(&self.used).count();
        match part {
            Part::Training => self.num_used() - held_out,
            Part::HeldOut => held_out,
        }
    }

    /// Finds a group's file by its index.
    pub fn files(&self) -> &DataFiles {
        &self.files
    }

    /// What each file contributed.
    pub fn reports(&self) -> &[FileReport] {
        &self.reports
    }

    /// Groups dropped by `max_samples`.
    pub fn num_over_limit(&self) -> usize {
        self.num_over_limit
    }

    /// Rows the readers skipped.
    pub fn num_skipped(&self) -> usize {
        self.reports.iter().map(|report| report.num_skipped).sum()
    }
}

/// Best reward minus worst reward.
fn reward_gap(group: &PromptGroup) -> f64 {
    let rewards = group.responses.iter().map(|response| response.reward);
    let (low, high) =
        rewards.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), reward| (low.min(reward), high.max(reward)));
    if high >= low { high - low } else { 0.0 }
}
/// The folder that a part of the data is, or in which it is.
fn folder_of(part: &Path) -> &Path {
    if part.is_dir() { part } else { part.parent().unwrap_or(part) }
}
