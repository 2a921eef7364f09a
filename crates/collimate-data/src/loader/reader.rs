//! Turns rows into groups, one at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::files::OpenFiles;
use super::labels::{self, LabelConflicts, Standing};
use super::usable::{check_usable, forget};
use super::{LoadCounts, LoadOptions, SourceDescription, row_rewards};
use crate::layout::node::{RowError, names};
use crate::layout::{RawGroup, RawResponse, UNSCORED};
use crate::{DataError, DataFiles, Layout, PromptGroup, Response, ScoreDirection, SkipReason};
use collimate_rewards::RewardFrom;

/// Iterates over the groups of one or more files in constant memory: one group, and the longest line so far or, for
/// Parquet, one page per column.
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
            counts: LoadCounts::default(),
            options,
        };
        let row = match reader.next_row() {
            Some(row) => row?,
            None => return Err(reader.file_error("it has no rows")),
        };
        if reader.options.layout.is_none() {
            reader.layout = reader.detect(&row)?;
        }
        reader.direction = reader.options.direction.unwrap_or(reader.layout.direction());
        if let Ok(raw) = reader.layout.parse(&row) {
            reader.resolve(&raw)?;
        }
        reader.first_row = Some(row);
        Ok(reader)
    }

    /// How the file is interpreted, to show before using the data.
    pub fn describe(&self) -> SourceDescription {
        let fallback = if self.layout.has_ranks() { RewardFrom::Rank } else { RewardFrom::Field { name: None } };
        let reward_from = self.reward_from.clone().unwrap_or(fallback);
        let reward_source = match &reward_from {
            RewardFrom::Field { name: Some(name) } => name.clone(),
            RewardFrom::Aspects { .. } => "rated aspects".to_owned(),
            _ => self.signal_name.unwrap_or("the layout's numbers").to_owned(),
        };
        let normalize = self.options.normalize;
        SourceDescription { layout: self.layout, reward_source, direction: self.direction, reward_from, normalize }
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

    fn detect(&self, row: &Value) -> Result<Layout, DataError> {
        // Columns are better evidence than the first row, in which some may be null.
        let columns = self.rows.columns().map(|names| names.into_iter().map(|name| (name, Value::Null)).collect());
        let found = match (columns.as_ref(), row) {
            (Some(fields), _) | (None, Value::Object(fields)) => match Layout::detect(fields) {
                Some(layout) => return Ok(layout),
                None => names(fields),
            },
            _ => "no fields: it is not an object".to_owned(),
        };
        let layouts: String = Layout::ALL.iter().map(|layout| format!("\n  {layout}: {}", layout.fields())).collect();
        Err(self.row_error(format!("no layout is known for a row with {found}; there are{layouts}")))
    }

    /// Settles the options left open, from the first well-formed row.
    fn resolve(&mut self, raw: &RawGroup) -> Result<(), DataError> {
        self.signal_name = Some(raw.signal_name);
        let unscored_pairs = self.layout == Layout::Preference && raw.signal_name == UNSCORED;
        if unscored_pairs && self.direction == ScoreDirection::LowerIsBetter {
            return Err(DataError::Options {
                problem: "a score direction was set, but these preference rows have no scores: chosen is better than \
                          rejected"
                    .to_owned(),
            });
        }
        if self.reward_from.is_none() {
            let only_aspects = raw.responses.iter().all(|r| r.signal.is_none() && !r.aspects.is_empty());
            self.reward_from = Some(match self.layout {
                layout if layout.has_ranks() => RewardFrom::Rank,
                Layout::UltraFeedback if only_aspects => RewardFrom::Aspects { weights: BTreeMap::new() },
                _ => RewardFrom::Field { name: None },
            });
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
        if self.options.layout.is_some() {
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

    fn group(&mut self, row: &Value) -> Result<PromptGroup, RowErrorOr> {
        let mut raw = self.layout.parse(row)?;
        if self.signal_name.is_none() {
            self.resolve(&raw).map_err(RowErrorOr::Data)?;
        }
        let reward_from = self.reward_from.clone().unwrap_or(RewardFrom::Field { name: None });
        let uses_signal = !matches!(reward_from, RewardFrom::Aspects { .. } | RewardFrom::Field { name: Some(_) });
        if let Some(first) = self.signal_name.filter(|first| uses_signal && *first != raw.signal_name) {
            let now = raw.signal_name;
            return Err(RowError::Problem(format!(
                "the first row's rewards come from {first}, this row's from {now}; give every row the same fields"
            ))
            .into());
        }
        check_usable(&raw, self.options.min_responses)?;
        let has_scores = raw.responses.iter().all(|response| response.signal.is_some()) || !uses_signal;
        if !self.options.needs_rewards && reward_from == (RewardFrom::Field { name: None }) {
            raw.responses.iter_mut().for_each(|response| _ = response.signal.get_or_insert(0.0));
        }
        let mut rewards = row_rewards::rewards(&raw, self.layout, self.direction, &reward_from)?;
        if has_scores {
            self.settle_label(&mut raw, &mut rewards)?;
        }
        if let Some(normalize) = self.options.normalize {
            rewards = normalize.apply(&rewards);
        }
        let responses = raw.responses.into_iter().zip(rewards);
        let responses = responses.map(|(raw, reward)| {
            let RawResponse { content, fields, aspects, token_ids, .. } = raw;
            Response { content, reward, scores: aspects, token_ids, fields }
        });
        Ok(PromptGroup {
            index: self.counts.num_rows - 1,
            line: self.rows.number(),
            prompt: raw.prompt,
            responses: responses.collect(),
            chat: raw.chat,
            chosen: raw.chosen,
        })
    }

    /// Compares a row's label, if it has one, with its scores, and lets one of them decide.
    fn settle_label(&mut self, raw: &mut RawGroup, scores: &mut [f64]) -> Result<(), RowError> {
        let Some(chosen) = raw.chosen else { return Ok(()) };
        let (standing, conflicts) = (Standing::of(scores, chosen), self.options.label_conflicts);
        let (files, index, line) = (&self.files, self.counts.num_rows - 1, self.rows.number());
        self.counts.labels.add(standing, || files.place(index, line));
        if standing == Standing::Contradicted && conflicts == LabelConflicts::Drop {
            let problem = "the scores contradict the label".to_owned();
            return Err(RowError::Unusable(SkipReason::ContradictedLabel, problem));
        }
        labels::settle(raw, scores, conflicts);
        Ok(())
    }

    fn data_error(&self, error: RowErrorOr) -> DataError {
        match error {
            RowErrorOr::Row(error) => error.at(self.path(), self.rows.number()),
            RowErrorOr::Data(error) => error,
        }
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
            let row = match self.first_row.take() {
                Some(row) => Ok(row),
                None => self.next_row()?,
            };
            match row.map_err(RowErrorOr::Data).and_then(|row| self.group(&row)) {
                Ok(group) => {
                    self.counts.num_groups += 1;
                    return Some(Ok(group));
                }
                // Rows that contradict their label reach here only if they are to be dropped.
                Err(RowErrorOr::Row(RowError::Unusable(reason, _)))
                    if self.options.skip_unusable || reason == SkipReason::ContradictedLabel =>
                {
                    *self.counts.skipped.entry(reason).or_default() += 1;
                }
                Err(error) => {
                    self.counts.num_errors += 1;
                    return Some(Err(self.data_error(error)));
                }
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

/// An error in a row, or one that already knows its file and line.
enum RowErrorOr {
    Row(RowError),
    Data(DataError),
}

impl From<RowError> for RowErrorOr {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}
