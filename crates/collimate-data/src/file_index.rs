//! Which file each group came from.

use std::path::{Path, PathBuf};

/// Finds a group's file by its [`PromptGroup::index`](crate::PromptGroup::index).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataFiles {
    /// Index of each file's first row, and the file; sorted by index.
    starts: Vec<(usize, PathBuf)>,
}

impl DataFiles {
    /// For groups that all come from one file.
    pub fn one(path: impl Into<PathBuf>) -> Self {
        Self { starts: vec![(0, path.into())] }
    }

    /// Appends a file whose first row has the index `start`, which no earlier file reaches.
    pub fn push(&mut self, start: usize, path: impl Into<PathBuf>) {
        self.starts.push((start, path.into()));
    }

    /// Each file with the index of its first row, in order.
    pub fn starts(&self) -> &[(usize, PathBuf)] {
        &self.starts
    }

    /// The file of the group with this index.
    pub fn path(&self, index: usize) -> &Path {
        let after = self.starts.partition_point(|(start, _)| *start <= index);
        after.checked_sub(1).map_or(Path::new(""), |position| &self.starts[position].1)
    }

    /// `FILE:LINE` of a group, for messages.
    pub fn location(&self, index: usize, line: usize) -> String {
        format!("{}:{line}", self.path(index).display())
    }
}
