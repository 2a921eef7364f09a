//! A pack, by the indices of what it has of a micro-batch.

use std::ops::Range;

/// The part of a micro-batch that goes through the model at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pack {
    pub(super) parts: Vec<PackPart>,
}

/// Some responses of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackPart {
    /// Index of the group in its micro-batch.
    pub(crate) group: usize,
    /// Indices of the responses.
    pub(crate) responses: Range<usize>,
}

impl Pack {
    /// Its parts, in the order of the micro-batch.
    pub(crate) fn parts(&self) -> &[PackPart] {
        &self.parts
    }

    /// Selects this pack's values from a micro-batch's, indexed by group and response.
    pub(crate) fn select<T: Clone>(&self, values: &[Vec<T>]) -> Vec<Vec<T>> {
        self.parts.iter().map(|part| values[part.group][part.responses.clone()].to_vec()).collect()
    }
}
