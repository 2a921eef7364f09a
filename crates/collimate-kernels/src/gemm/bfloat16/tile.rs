//! The unit in which factors are packed: 32 lanes by 32 numbers. Nothing here needs the standard library:
//! `tests/python/emulated_products.py` compiles this file for a processor without an operating system.

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

/// Tiles of `a` and of `b` along the same part of the inner dimension.
#[derive(Clone, Copy)]
pub(super) struct Panels<'t> {
    pub(super) a: &'t [Tile],
    pub(super) b: &'t [Tile],
}

/// What a kernel writes: the sums of a block of 32 by 32.
#[derive(Clone)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; SIDE]; SIDE]);

impl Sums {
    pub(super) const ZERO: Self = Self([[0.0; SIDE]; SIDE]);
}
