//! Tile sizes of the matrix-unit kernels.

use super::super::sizes::Sizes;
use super::super::tile::UNITS;

/// Planes per cube.
pub(super) const PLANES: u32 = UNITS / 32;

impl Sizes {
    /// Width of a head, padded to a multiple of 32.
    pub(super) fn wide(self) -> u32 {
        self.dim.next_multiple_of(32)
    }

    /// Stride between the rows of a tile of queries, keys or values, chosen to avoid bank conflicts.
    pub(super) fn pitch(self) -> u32 {
        self.wide() + 8
    }

    /// Stride between the rows of a tile of scores.
    pub(super) fn score_pitch(self) -> u32 {
        self.side + 4
    }

    /// Stride between the rows of a tile of weights.
    pub(super) fn weight_pitch(self) -> u32 {
        self.side + 8
    }

    /// Squares of 16 by 16 along a side.
    pub(super) fn squares(self) -> u32 {
        self.side / 16
    }

    /// Squares of the weighted sums for each plane.
    pub(super) fn squares_per_plane(self) -> u32 {
        (self.squares() * self.wide() / 16).div_ceil(PLANES)
    }

    /// Chunks of `side` columns that cover the width of a head.
    pub(super) fn chunks(self) -> u32 {
        self.wide().div_ceil(self.side)
    }

    /// Elements of a tile of queries, keys or values.
    pub(super) fn tile_len(self) -> usize {
        (self.side * self.pitch()) as usize
    }

    /// Elements of a tile of scores, at least two per unit.
    pub(super) fn score_len(self) -> usize {
        (self.side * self.score_pitch()).max(2 * UNITS) as usize
    }

    /// Elements of a tile of weights.
    pub(super) fn weight_len(self) -> usize {
        (self.side * self.weight_pitch()) as usize
    }

    /// Bytes of shared memory of the kernel with the most tiles, for elements of `element` bytes.
    pub(in super::super) fn matrix_bytes(self, element: usize) -> usize {
        element * (4 * self.tile_len() + self.weight_len()) + 8 * self.score_len()
    }
}
