//! The left factor of a product: packed, or read where it is.
#![allow(unsafe_code)] // kernels read rows of a matrix by their address

use std::borrow::Cow;
use std::ops::Range;

use half::bf16;

use super::instructions::Instructions;
use super::pack::{InPlace, Lanes, Order, pack};
use super::tile::{DEPTH, Rows, SIDE, Tile};

/// A left factor: its first blocks of 32 rows may be read in place, and the others are in tiles.
pub(super) struct Left<'t> {
    in_place: Option<InPlace<'t>>,
    /// How many blocks are read in place.
    blocks_in_place: usize,
    /// [tile of rows][tile of depth].
    tiles: Cow<'t, [Tile]>,
    depth_tiles: usize,
}

impl<'t> Left<'t> {
    /// A factor that is packed already.
    pub(super) fn packed(tiles: &'t [Tile], depth_tiles: usize) -> Self {
        Self { in_place: None, blocks_in_place: 0, tiles: Cow::Borrowed(tiles), depth_tiles }
    }

    /// Packs what these instructions do not read in place: everything, or the last rows if they are fewer than 32.
    pub(super) fn new<'f: 't>(factor: &dyn Lanes<'f>, instructions: Instructions, parallel: bool) -> Self {
        let in_place = factor.in_place().filter(|_| instructions.reads_rows_in_place());
        let blocks_in_place = if in_place.is_some() { factor.lanes() / SIDE } else { 0 };
        let tiles = pack(factor, blocks_in_place..factor.lanes().div_ceil(SIDE), Order::ByLane, parallel);
        Self { in_place, blocks_in_place, tiles: Cow::Owned(tiles), depth_tiles: factor.depth().div_ceil(DEPTH) }
    }

    /// Tiles along the inner dimension.
    pub(super) fn depth_tiles(&self) -> usize {
        self.depth_tiles
    }

    /// A part of the inner dimension of 32 rows.
    pub(super) fn panel(&self, block: usize, depth: Range<usize>) -> Rows<'_> {
        match self.in_place {
            Some(rows) if block < self.blocks_in_place => rows.panel(block, depth),
            _ => Rows::of_tiles(&self.tiles[(block - self.blocks_in_place) * self.depth_tiles..][depth]),
        }
    }
}

impl<'t> InPlace<'t> {
    fn panel(self, block: usize, depth: Range<usize>) -> Rows<'t> {
        let numbers = &self.numbers[block * SIDE * self.stride + depth.start * DEPTH..];
        assert!((SIDE - 1) * self.stride + depth.len() * DEPTH <= numbers.len(), "the rows of a factor");
        // SAFETY: 32 rows are within the matrix, which is borrowed.
        unsafe { Rows::in_place(numbers.as_ptr().cast(), self.stride * size_of::<bf16>(), depth.len()) }
    }
}
