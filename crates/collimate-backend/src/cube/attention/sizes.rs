//! Sizes that an attention kernel is compiled for.

use collimate_kernels::AttentionShape;

/// Sizes of an attention kernel, known at compile time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sizes {
    /// Query heads.
    pub(super) heads: u32,
    /// Query heads per key head.
    pub(super) group: u32,
    /// Width of a head.
    pub(super) dim: u32,
    /// Rows of a tile of queries, and of a tile of keys.
    pub(super) side: u32,
    /// Heads per tile of queries.
    pub(super) heads_per_tile: u32,
    /// Whether scores are softcapped.
    pub(super) capped: bool,
    /// Whether attention is limited to a sliding window.
    pub(super) windowed: bool,
    /// Whether products run on the device's matrix units.
    pub(super) matrix: bool,
}

impl Sizes {
    pub(super) fn new(shape: &AttentionShape, side: u32) -> Self {
        let group = (shape.heads / shape.kv_heads) as u32;
        Self {
            heads: shape.heads as u32,
            group,
            dim: shape.head_dim as u32,
            side,
            heads_per_tile: group.min(side),
            capped: shape.softcap.is_some(),
            windowed: shape.window.is_some(),
            matrix: false,
        }
    }

    /// Width of a head, padded to a multiple of 16.
    pub(super) fn padded_dim(self) -> u32 {
        self.dim.next_multiple_of(16)
    }

    /// Rows of the pack in a tile of queries.
    pub(super) fn queries(self) -> u32 {
        self.side / self.heads_per_tile
    }

    /// Tiles that the query heads of one key head take.
    pub(super) fn parts(self) -> u32 {
        self.group.div_ceil(self.heads_per_tile)
    }

    /// Key and value heads.
    pub(super) fn kv_heads(self) -> u32 {
        self.heads / self.group
    }

    /// Tiles that one block of queries takes, over all heads.
    pub(super) fn tiles_per_block(self) -> u32 {
        self.kv_heads() * self.parts()
    }

    /// Elements of the staging buffer: 16 columns of two tiles.
    pub(super) fn stage(self) -> u32 {
        2 * 16 * (self.side + 1)
    }

    /// Whole rows of a head that fit the staging buffer: a power of two, at most 16.
    pub(super) fn staged_rows(self) -> u32 {
        let fitting = (self.stage() / self.padded_dim()).clamp(1, 16);
        1 << fitting.ilog2()
    }
}
