//! Biases of the attention's projections.

/// Which projections of the attention have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttentionBias {
    /// Queries.
    pub q: bool,
    /// Keys.
    pub k: bool,
    /// Values.
    pub v: bool,
    /// Output.
    pub o: bool,
}

impl AttentionBias {
    /// No projection has one.
    pub const NONE: Self = Self { q: false, k: false, v: false, o: false };
    /// Every projection has one.
    pub const ALL: Self = Self { q: true, k: true, v: true, o: true };
}
