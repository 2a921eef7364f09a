//! Turns rows into groups, one at a time.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::detect::{detect, forget};
use super::files::OpenFiles;
use super::gather::{Gathered, PlacedGroup};
use super::labels;
use super::usable::keep_usable;
use super::{LoadCounts, LoadOptions, SourceDescription, row_rewards};
use crate::layout::node::RowError;
use crate::layout::raw::{RawGroup, RawResponse, RowKind};
use crate::{DataError, DataFiles, Layout, PromptGroup, Response, ScoreDirection, SkipReason};
use collimate_rewards::RewardFrom;

/// Iterates over the groups of one or more files in constant memory: one group, and the longest line so far or, for
/// Parquet, one page per column. Where a row holds one of a prompt's responses, rows are kept on disk until all are read.
///
/// It continues after an error in a row, so that all errors of a file can be listed.
pub struct GroupReader {
    rows: OpenFiles,
    options: LoadOptions,
    layout: Layout,
    direction: ScoreDirection,
    reward_from: Option<RewardFrom>,
    signal_name: Option<&'static str>,
    first_row: Option<Value>,
    /// What the first well-formed row is to its group.
    kind: RowKind,
    /// The last row that was parsed, if rows are gathered.
    last_row: Option<Value>,
    gathered: Option<Box<Gathered>>,
    counts: LoadCounts,
    files: DataFiles,
}

impl GroupReader {
    pub(super) fn start(rows: OpenFiles, options: LoadOptions) -> Result<Self, DataError> {
        let mut reader = Self {
            files: DataFiles::one(rows.path()),
            rows,
            layout: options.layout.unwrap_or(Layout::Collimate),
            direction: ScoreDirection::HigherIsBetter,
            reward_from: options.reward_from.clone(),
            signal_name: None,
            first_row: None,
            kind: RowKind::Group,
            last_row: None,
            gathered: None,
            counts: LoadCounts::default(),
            options,
        };
        let row = match reader.next_row() {
            Some(row) => row?,
            None => return Err(reader.file_error("it has no rows")),
        };
        if reader.options.layout.is_none() && reader.options.fields.is_none() {
            reader.layout = reader.detect(&row)?;
        }
        reader.direction = reader.options.direction.unwrap_or(reader.layout.direction());
        if let Ok(raw) = reader.parse(&row) {
            reader.resolve(&raw)?;
        }
        reader.first_row = Some(row);
        Ok(reader)
    }

    /// How the file is interpreted, to show before using the data.
    pub fn describe(&self) -> SourceDescription {
        SourceDescription::new(&self.options, self.layout, self.direction, self.reward_from.clone(), self.signal_name)
    }

    /// Whether a row holds one response without a reward, for objectives that compare nothing.
    pub fn is_demonstrations(&self) -> bool {
        self.kind == RowKind::Demonstration
    }

    /// Accepts groups of one response from here on.
    pub fn accept_single_responses(&mut self) {
        self.options.min_responses = 1;
    }

    /// Counts so far.
    pub fn counts(&self) -> &LoadCounts {
        &self.counts
    }

    /// The file being read.
    pub fn path(&self) -> &Path {
        self.rows.path()
    }

    /// Finds the file of a group read so far by its index.
    pub fn files(&self) -> &DataFiles {
        &self.files
    }

    fn parse(&self, row: &Value) -> Result<RawGroup, RowError> {
        match &self.options.fields {
            Some(fields) => fields.parse(row),
            None => self.layout.parse(row),
        }
    }

    fn detect(&self, row: &Value) -> Result<Layout, DataError> {
        detect(self.rows.columns().unwrap_or_default(), row, self.path()).map_err(|problem| self.row_error(problem))
    }

    /// Settles the options left open, from the first well-formed row.
    fn resolve(&mut self, raw: &RawGroup) -> Result<(), DataError> {
        self.signal_name = Some(raw.signal_name);
        self.kind = raw.kind;
        if raw.is_labeled && self.direction == ScoreDirection::LowerIsBetter {
            return Err(DataError::Options {
                problem: "a score direction was set, but these preference rows have no scores: chosen is better than \
                          rejected"
                    .to_owned(),
            });
        }
        if self.reward_from.is_none() {
            self.reward_from = Some(row_rewards::usual(self.layout, raw));
        }
        Ok(())
    }

    /// The next row as JSON; `None` at the end.
    fn next_row(&mut self) -> Option<Result<Value, DataError>> {
        let mut row = self.rows.next()?;
        if let Ok(row) = &mut row {
            self.options.ignore_fields.iter().for_each(|name| forget(row, name));
        }
        if self.rows.is_at_first_row() && self.counts.num_rows > 0 {
            self.files.push(self.counts.num_rows, self.rows.path());
            if let Ok(row) = &row
                && let Err(error) = self.check_layout(row)
            {
                self.counts.num_rows += 1;
                return Some(Err(error));
            }
        }
        // These errors are about the file, not about a row of it.
        self.counts.num_rows += usize::from(!matches!(row, Err(DataError::Io { .. } | DataError::LineTooLong { .. })));
        Some(row)
    }

    /// Checks that a further file has the layout of the first.
    fn check_layout(&self, row: &Value) -> Result<(), DataError> {
        if self.options.layout.is_some() || self.options.fields.is_some() {
            return Ok(());
        }
        match self.detect(row)? {
            layout if layout == self.layout => Ok(()),
            other => {
                let (first, files) = (self.layout, &self.files);
                let problem = format!("it has the layout {other}, but {} has {first}", files.path(0).display());
                Err(self.file_error(&problem))
            }
        }
    }

    /// The next row, parsed; rows that cannot be used are skipped if the options allow it.
    fn next_parsed(&mut self) -> Option<Result<PlacedGroup, DataError>> {
        loop {
            let row = match self.first_row.take().map_or_else(|| self.next_row(), |row| Some(Ok(row)))? {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
            let (index, line) = (self.counts.num_rows.saturating_sub(1), self.rows.number());
            match self.parse(&row) {
                Ok(raw) => {
                    let settled = if self.signal_name.is_none() { self.resolve(&raw) } else { Ok(()) };
                    self.last_row = (self.kind == RowKind::OneOfMany).then_some(row);
                    return Some(settled.map(|()| PlacedGroup { raw, index, line }));
                }
                Err(error) => match error.reason().filter(|_| self.options.skip_unusable) {
                    Some(reason) => *self.counts.skipped.entry(reason).or_default() += 1,
                    None => return Some(Err(error.at(self.files.path(index), line))),
                },
            }
        }
    }

    /// The next group before its rewards are computed: the next row, or all rows of the next prompt.
    fn next_raw(&mut self) -> Option<Result<PlacedGroup, DataError>> {
        if self.gathered.is_none() {
            let first = self.next_parsed()?;
            if self.kind != RowKind::OneOfMany {
                return Some(first);
            }
            if let Err(error) = self.gather(first) {
                return Some(Err(error));
            }
        }
        let mut gathered = self.gathered.take()?;
        let place = |index| self.files.path(index);
        let next = gathered.next(|row, index, line| self.parse(row).map_err(|error| error.at(place(index), line)));
        self.gathered = Some(gathered);
        next
    }

    /// Gathers this row and all further ones.
    fn gather(&mut self, first: Result<PlacedGroup, DataError>) -> Result<(), DataError> {
        let mut gathered = Box::new(Gathered::new());
        let mut next = Some(first);
        while let Some(parsed) = next {
            gathered.add(parsed, self.last_row.take().as_ref())?;
            next = self.next_parsed();
        }
        self.gathered = Some(gathered);
        Ok(())
    }

    fn group(&mut self, PlacedGroup { mut raw, index, line }: PlacedGroup) -> Result<PromptGroup, RowError> {
        let reward_from = self.reward_from.clone().unwrap_or(RewardFrom::Field { name: None });
        let uses_signal = !matches!(reward_from, RewardFrom::Aspects { .. } | RewardFrom::Field { name: Some(_) });
        if let Some(first) = self.signal_name.filter(|first| uses_signal && *first != raw.signal_name) {
            let now = raw.signal_name;
            return Err(RowError::Problem(format!(
                "the first row's rewards come from {first}, this row's from {now}; give every row the same fields"
            )));
        }
        let mut has_scores = true;
        if !self.options.needs_rewards && reward_from == (RewardFrom::Field { name: None }) {
            for response in raw.responses.iter_mut().filter(|response| response.signal.is_err()) {
                (response.signal, has_scores) = (Ok(0.0), false);
            }
        }
        let left_out = keep_usable(&mut raw, &self.options, self.layout, &reward_from)?;
        let mut rewards = row_rewards::rewards(&raw, self.layout, self.direction, &reward_from)?;
        if has_scores {
            let location = || self.files.location(index, line);
            labels::compare(&mut raw, &mut rewards, self.options.label_conflicts, &mut self.counts.labels, location)?;
        }
        for reason in left_out {
            *self.counts.left_out.entry(reason).or_default() += 1;
        }
        if let Some(normalize) = self.options.normalize {
            rewards = normalize.apply(&rewards);
        }
        let responses = raw.responses.into_iter().zip(rewards).map(|(raw, reward)| {
            let RawResponse { before, content, fields, aspects, token_ids, .. } = raw;
            Response { before, content, reward, scores: aspects, token_ids, fields }
        });
        raw.prompt.place_images(self.files.path(index));
        let (prompt, chat, chosen) = (raw.prompt, raw.chat, raw.chosen);
        Ok(PromptGroup { index, line, prompt, responses: responses.collect(), chat, chosen })
    }

    fn row_error(&self, problem: String) -> DataError {
        DataError::Row { path: self.path().to_owned(), line: self.rows.number(), problem }
    }

    fn file_error(&self, problem: &str) -> DataError {
        DataError::File { path: self.path().to_owned(), problem: problem.to_owned() }
    }
}

impl Iterator for GroupReader {
    type Item = Result<PromptGroup, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.options.max_samples.is_none_or(|max| self.counts.num_groups < max) {
            let placed = match self.next_raw()? {
                Ok(placed) => placed,
                Err(error) => {
                    self.counts.num_errors += 1;
                    return Some(Err(error));
                }
            };
            let (index, line) = (placed.index, placed.line);
            match self.group(placed) {
                Ok(group) => {
                    self.counts.num_groups += 1;
                    return Some(Ok(group));
                }
                // Rows that contradict their label reach here only if they are to be dropped.
                Err(error) => match error
                    .reason()
                    .filter(|reason| self.options.skip_unusable || *reason == SkipReason::ContradictedLabel)
                {
                    Some(reason) => *self.counts.skipped.entry(reason).or_default() += 1,
                    None => {
                        self.counts.num_errors += 1;
                        return Some(Err(error.at(self.files.path(index), line)));
                    }
                },
            }
        }
        None
    }
}

impl fmt::Debug for GroupReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupReader").field("path", &self.path()).field("counts", &self.counts).finish_non_exhaustive()
    }
}
