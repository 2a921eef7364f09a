//! How many patches an image has.

/// Patches of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Rows of patches.
    pub rows: usize,
    /// Patches of a row.
    pub columns: usize,
}

impl Grid {
    /// Number of patches.
    pub fn num_patches(self) -> usize {
        self.rows * self.columns
    }

    /// The grid after squares of `merge` × `merge` patches became one token each.
    pub fn merged(self, merge: usize) -> Self {
        Self { rows: self.rows / merge, columns: self.columns / merge }
    }
}
