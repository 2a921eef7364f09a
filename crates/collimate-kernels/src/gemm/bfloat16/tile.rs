//! The unit in which factors are packed: 32 lanes by 32 numbers. Nothing here needs the standard library:
//! `tests/python/emulated_products.py` compiles this file for a processor without an operating system.
#![allow(unsafe_code)] // rows of a matrix are read where they are

use core::marker::PhantomData;

/// Rows of `a`, or columns of `b`, of a tile. Kernels sum a tile of each factor at once.
pub(super) const SIDE: usize = 32;

/// Numbers of a lane in a tile; the inner dimension is packed in parts of this size.
pub(super) const DEPTH: usize = 32;

/// Lanes of half a tile: what fills a register of AVX-512, or one of AMX's tiles.
pub(super) const LANES: usize = 16;

/// Pairs of a lane in a tile.
pub(super) const PAIRS: usize = DEPTH / 2;

/// Products of packed factors that are summed together, at most: of the halves of split float32 numbers.
pub(super) const PRODUCTS: usize = 3;

/// Sixteen lanes of sixteen pairs of bfloat16 numbers, of which the one at the even position is the low half of a pair.
///
/// Half a tile of `a` has its lanes as rows, one of `b` its pairs: [lane][pair] and [pair][lane], each the other's transpose.
pub(super) type Half = [u32; LANES * PAIRS];

/// The first and the last sixteen lanes.
#[derive(Debug, Clone, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Tile(pub(super) [Half; 2]);

impl Tile {
    pub(super) const ZERO: Self = Self([[0; LANES * PAIRS]; 2]);
}

/// Up to 32 rows of `a` along a part of the inner dimension: tiles, or rows of a matrix, whose pairs lie as those of tiles do.
#[derive(Clone, Copy)]
pub(super) struct Rows<'t> {
    /// The first pair of the first row; pairs may have any alignment.
    start: *const u32,
    /// Bytes from a row to the next.
    stride: usize,
    /// Bytes from 32 numbers of a row to the next.
    step: usize,
    /// How many times 32 numbers there are.
    tiles: usize,
    borrow: PhantomData<&'t [u32]>,
}

impl<'t> Rows<'t> {
    /// Bytes of 32 numbers.
    const BYTES: usize = size_of::<[u32; PAIRS]>();

    /// 32 rows in tiles.
    pub(super) fn of_tiles(tiles: &'t [Tile]) -> Self {
        let start = tiles.as_ptr().cast();
        Self { start, stride: Self::BYTES, step: size_of::<Tile>(), tiles: tiles.len(), borrow: PhantomData }
    }

    /// Rows of a matrix from an address on, which are `stride` bytes apart.
    ///
    /// # Safety
    /// As many rows as a kernel reads have `tiles` times 64 bytes each, and stay unchanged for `'t`.
    pub(super) unsafe fn in_place(start: *const u32, stride: usize, tiles: usize) -> Self {
        Self { start, stride, step: Self::BYTES, tiles, borrow: PhantomData }
    }

    pub(super) fn tiles(self) -> usize {
        self.tiles
    }

    /// Where the tiles are, if these are tiles.
    pub(super) fn packed(self) -> Option<*const Tile> {
        (self.step == size_of::<Tile>()).then_some(self.start.cast())
    }

    /// The 16 pairs of a row in a tile.
    ///
    /// # Safety
    /// The row is one of those that a kernel may read.
    #[inline(always)]
    pub(super) unsafe fn pairs(self, row: usize, tile: usize) -> *const u32 {
        debug_assert!(tile < self.tiles);
        // SAFETY: within the rows, by the caller's promise.
        unsafe { self.start.byte_add(row * self.stride + tile * self.step) }
    }
}

/// Rows of `a` and tiles of `b` along the same part of the inner dimension.
#[derive(Clone, Copy)]
pub(super) struct Panels<'t> {
    pub(super) a: Rows<'t>,
    pub(super) b: &'t [Tile],
}

/// What a kernel writes: the sums of a block of 32 by 32.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; SIDE]; SIDE]);

impl Sums {
    pub(super) const ZERO: Self = Self([[0.0; SIDE]; SIDE]);
}
