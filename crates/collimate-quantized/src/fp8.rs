//! FP8: E4M3 floats with a scale for each rectangle of the matrix, or one for all of it.

use std::sync::Arc;

use bytes::Bytes;

use crate::unpack::{Expand, Kernel, Tile};

/// The largest number of E4M3.
pub(crate) const LARGEST: f32 = 448.0;

/// Bytes of E4M3, row after row: a number is `float · scale` of its rectangle. Files call the scales
/// `weight_scale_inv`, and multiply by them nonetheless.
#[derive(Clone, Debug)]
pub struct Fp8 {
    pub(crate) codes: Bytes,
    /// Of the rectangles, row after row: ⌈rows / block rows⌉ × ⌈columns / block columns⌉.
    pub(crate) scales: Arc<[f32]>,
    /// Rows and columns of a rectangle; `None` if one scale is that of all numbers.
    pub(crate) block: Option<[usize; 2]>,
}

impl Fp8 {
    /// The first code that is not a number.
    pub(crate) fn first_nan(&self) -> Option<usize> {
        self.codes.iter().position(|&code| code & 0x7f == 0x7f)
    }
}

/// The number of a byte; the two bytes that are no numbers give NaN.
#[inline(always)]
pub(crate) fn decode(code: u8) -> f32 {
    let bits = u32::from(code);
    let magnitude = bits & 0x7f;
    // Without exponent a number is eighths of 2⁻⁶; both are computed and one is chosen, so that a loop is vectorized.
    let normal = (magnitude << 20) + ((127 - 7) << 23);
    let small = (magnitude as f32 * (1.0 / 512.0)).to_bits();
    let finite = if magnitude < 8 { small } else { normal };
    let chosen = if magnitude == 0x7f { f32::NAN.to_bits() } else { finite };
    f32::from_bits(chosen | (bits & 0x80) << 24)
}

/// Unpacks rows of a tile.
pub(crate) struct UnpackFp8<'a> {
    pub(crate) packed: &'a Fp8,
    pub(crate) columns: usize,
    pub(crate) tile: Tile<'a>,
}

impl Kernel for UnpackFp8<'_> {
    #[inline(always)]
    fn run(self, _: impl Expand) {
        let Self { packed, columns, tile } = self;
        let [block_rows, block_columns] = packed.block.unwrap_or([usize::MAX; 2]);
        let width = tile.columns.len();
        for (row, out) in tile.rows.clone().zip(tile.out.chunks_exact_mut(width)) {
            let scales = &packed.scales[row / block_rows * columns.div_ceil(block_columns)..];
            let (mut column, mut rest) = (tile.columns.start, out);
            while !rest.is_empty() {
                let count = rest.len().min(block_columns - column % block_columns);
                let (piece, after) = rest.split_at_mut(count);
                let scale = scales[column / block_columns];
                let codes = &packed.codes[row * columns + column..][..count];
                for (number, &code) in piece.iter_mut().zip(codes) {
                    *number = decode(code) * scale;
                }
                (column, rest) = (column + count, after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn bytes_are_floats_with_four_bits_of_exponent() {
        for code in 0..=u8::MAX {
            let (exponent, fraction) = (i32::from(code >> 3 & 15), f32::from(code & 7));
            let magnitude = match (exponent, code & 7) {
                (15, 7) => f32::NAN,
                (0, _) => fraction / 8.0 * 2f32.powi(-6),
                _ => (1.0 + fraction / 8.0) * 2f32.powi(exponent - 7),
            };
            let expected = if code & 0x80 == 0 { magnitude } else { -magnitude };
            let found = decode(code);
            assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{code:#x}: {found}");
        }
        assert_eq!(decode(0x7e), super::LARGEST);
    }
}
