//! MXFP4: floats of four bits with a power of two for each 32 of a row.

use bytes::Bytes;

use crate::unpack::{Expand, Kernel, Tile, look_up};

/// Numbers that share a power of two.
pub(crate) const BLOCK: usize = 32;
/// The exponent that stands for 2⁰.
const BIAS: u8 = 127;
/// The largest exponent whose largest number, 6 · 2ˣ, is finite.
pub(crate) const LARGEST_EXPONENT: u8 = BIAS + 125;

/// The number of each code: a sign, two bits of exponent, one of fraction.
pub(crate) const TABLE: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// Codes of four bits, two a byte, the even position in the low half; rows are whole blocks of 32.
#[derive(Clone, Debug)]
pub struct Mxfp4 {
    pub(crate) codes: Bytes,
    /// The exponent of each block, plus 127.
    pub(crate) exponents: Bytes,
}

impl Mxfp4 {
    /// Every other row of a matrix with this many columns, from one on, in bytes of its own.
    pub(crate) fn every_other_row(&self, columns: usize, first: usize) -> Self {
        let rows = |bytes: &Bytes, len: usize| -> Bytes {
            bytes.chunks_exact(len).skip(first).step_by(2).flatten().copied().collect()
        };
        Self { codes: rows(&self.codes, columns / 2), exponents: rows(&self.exponents, columns / BLOCK) }
    }
}

/// 2 to the power of an exponent, which has no sign and at most 254; 2⁻¹²⁷ is subnormal.
#[inline(always)]
fn power(exponent: u8) -> f32 {
    f32::from_bits(if exponent == 0 { 1 << 22 } else { u32::from(exponent) << 23 })
}

/// Unpacks rows of a tile.
pub(crate) struct UnpackMxfp4<'a> {
    pub(crate) packed: &'a Mxfp4,
    pub(crate) columns: usize,
    pub(crate) tile: Tile<'a>,
}

impl Kernel for UnpackMxfp4<'_> {
    #[inline(always)]
    fn run(self, expand: impl Expand) {
        let Self { packed, columns, tile } = self;
        let width = tile.columns.len();
        for (row, out) in tile.rows.clone().zip(tile.out.chunks_exact_mut(width)) {
            let (mut position, mut rest) = (row * columns + tile.columns.start, out);
            while !rest.is_empty() {
                let count = rest.len().min(BLOCK - position % BLOCK);
                let (piece, after) = rest.split_at_mut(count);
                let factor = power(packed.exponents[position / BLOCK]);
                let scaled = TABLE.map(|number| number * factor);
                look_up::<true>(expand, &scaled, &packed.codes, position, piece);
                (position, rest) = (position + count, after);
            }
        }
    }
}
