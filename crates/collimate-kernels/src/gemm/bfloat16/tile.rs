//! The unit in which factors are packed: 16 lanes by 32 numbers. Nothing here needs the standard library:
//! `tests/python/emulated_products.py` compiles this file for a processor without an operating system.

/// Rows of `a`, or columns of `b`, of a tile.
pub(super) const LANES: usize = 16;

/// Numbers of a lane in a tile; the inner dimension is packed in parts of this size.
pub(super) const DEPTH: usize = 32;

/// Pairs of a lane in a tile.
pub(super) const PAIRS: usize = DEPTH / 2;

/// Rows and columns of what a kernel sums at once: two tiles of each factor.
pub(super) const SIDE: usize = 2 * LANES;

/// Products of packed factors that are summed together, at most: of the halves of split float32 numbers.
pub(super) const PRODUCTS: usize = 3;

/// 16 lanes by 16 pairs of bfloat16 numbers; the number at the even position is the low half of a pair.
///
/// A tile of `a` has its lanes as rows, a tile of `b` its pairs: [lane][pair] and [pair][lane]. One is the other's transpose.
#[derive(Debug, Clone, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Tile(pub(super) [u32; LANES * PAIRS]);

/// Parts of the inner dimension of two tiles of `a` and two of `b`, all of the same length.
#[derive(Clone, Copy)]
pub(super) struct Panels<'t> {
    pub(super) a: [&'t [Tile]; 2],
    pub(super) b: [&'t [Tile]; 2],
}

/// What a kernel writes: the sums of a block of 32 by 32.
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; SIDE]; SIDE]);
