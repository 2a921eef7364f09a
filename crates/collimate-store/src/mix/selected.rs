//! The second pass over the data: the groups that are used.

use std::fmt;

use collimate_data::{DataError, GroupReader, PromptGroup};

use super::Selection;
use super::report::dropped;

/// What a group is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It is trained on.
    Training,
    /// It is held out, to evaluate on.
    HeldOut,
}

/// Iterates over the groups of a [`Selection`] in the order of the files, in the memory of one group. Reading stops after the
/// last group that is used.
///
/// # Errors
/// An item is an error if a file has changed since the first pass or cannot be read; it is the last.
pub struct SelectedGroups<'a> {
    selection: &'a Selection,
    reader: Option<GroupReader>,
    /// The file that is read, or comes next.
    input: usize,
    /// Position of the next group that passes the filters.
    position: usize,
    /// Positions to read.
    end: usize,
}

impl<'a> SelectedGroups<'a> {
    pub(super) fn new(selection: &'a Selection) -> Self {
        let end = selection.used.last().map_or(0, |last| last + 1);
        Self { selection, reader: None, input: 0, position: 0, end }
    }

    /// The next group that is used; `None` at the end.
    fn read(&mut self) -> Result<Option<(Part, PromptGroup)>, DataError> {
        while self.position < self.end {
            let Some(input) = self.selection.inputs.get(self.input) else {
                return Err(self.changed(self.input.saturating_sub(1)));
            };
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => {
                    input.check_unchanged()?;
                    none.insert(input.reader(&self.selection.options.load)?)
                }
            };
            let Some(group) = reader.next() else {
                input.check_unchanged()?;
                (self.reader, self.input) = (None, self.input + 1);
                continue;
            };
            let mut group = group?;
            if dropped(&group, &self.selection.options).is_some() {
                continue;
            }
            group.index += input.first_index;
            let position = self.position;
            self.position += 1;
            if position + 1 == self.end {
                input.check_unchanged()?;
            }
            if let Some(part) = self.selection.part_of(position) {
                return Ok(Some((part, group)));
            }
        }
        Ok(None)
    }

    fn changed(&self, input: usize) -> DataError {
        match self.selection.inputs.get(input) {
            Some(input) => input.changed(),
            None => DataError::Options { problem: "no data file is given".to_owned() },
        }
    }
}

impl Iterator for SelectedGroups<'_> {
    type Item = Result<(Part, PromptGroup), DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.read().transpose();
        if matches!(item, Some(Err(_))) {
            self.position = self.end;
        }
        item
    }
}

impl fmt::Debug for SelectedGroups<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SelectedGroups").field("position", &self.position).finish_non_exhaustive()
    }
}
