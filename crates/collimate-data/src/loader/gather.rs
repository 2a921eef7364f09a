//! Groups made of several rows: those with the same prompt.

use std::collections::{HashMap, VecDeque};

use crate::layout::raw::{RawGroup, RowKind};
use crate::{ChatInputs, DataError, Prompt};

/// A parsed row, or rows, with its place.
pub(super) struct PlacedGroup {
    pub(super) raw: RawGroup,
    /// Position among the rows of all files, from 0.
    pub(super) index: usize,
    /// Line in its file, from 1.
    pub(super) line: usize,
}

/// Rows of one response, gathered by their prompts in the order of each prompt's first row.
///
/// The rows of a prompt may be anywhere in the files, so all of them are in memory.
#[derive(Default)]
pub(super) struct Gathered {
    groups: VecDeque<Result<PlacedGroup, DataError>>,
    by_prompt: HashMap<(Prompt, ChatInputs), usize>,
}

impl Gathered {
    /// Adds a row to its prompt's group.
    pub(super) fn add(&mut self, row: Result<PlacedGroup, DataError>) {
        let Ok(mut placed) = row else { return self.groups.push_back(row) };
        let is_alike = |first: &PlacedGroup| first.raw.signal_name == placed.raw.signal_name;
        let prompt = (placed.raw.prompt.clone(), placed.raw.chat.clone());
        let first = self.by_prompt.get(&prompt).and_then(|position| self.groups.get_mut(*position));
        match first {
            Some(Ok(first)) if placed.raw.kind == RowKind::OneOfMany && is_alike(first) => {
                for response in &mut placed.raw.responses {
                    response.field = format!("{} (line {})", response.field, placed.line);
                    response.signal_field = format!("{} (line {})", response.signal_field, placed.line);
                }
                first.raw.responses.append(&mut placed.raw.responses);
            }
            _ => {
                if placed.raw.kind == RowKind::OneOfMany {
                    self.by_prompt.entry(prompt).or_insert(self.groups.len());
                }
                self.groups.push_back(Ok(placed));
            }
        }
    }

    /// The next group, or the error of a row; call it after the last row is added.
    pub(super) fn next(&mut self) -> Option<Result<PlacedGroup, DataError>> {
        self.groups.pop_front()
    }
}
