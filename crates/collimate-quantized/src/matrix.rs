//! A packed matrix.

use std::ops::Range;

use half::bf16;

use crate::awq::{Awq, UnpackAwq};
use crate::format::Format;
use crate::four_bit::{FourBit, ScaleOrder, Scales, UnpackFourBit};
use crate::fp8::{Fp8, UnpackFp8};
use crate::gptq::{Gptq, UnpackGptq};
use crate::int8::{Int8, UnpackInt8};
use crate::mxfp4::{Mxfp4, UnpackMxfp4};
use crate::unpack::{Instructions, Tile};

/// Numbers that are unpacked at once on their way to sixteen bits.
const SIXTEEN_BIT_PIECE: usize = 1024;

/// The weight of a linear layer, [rows (outputs), columns (inputs)], packed. Its bytes are shared, so a clone is cheap, and
/// may be those of a file in memory.
///
/// It is checked once, when it is read or packed; unpacking cannot fail. Every unpacked number is finite, but for
/// [`Packing::Fp8`], whose codes can say "not a number": [`PackedMatrix::first_not_finite`] looks for them.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) packing: Packing,
}

/// The packed numbers, by format.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Packing {
    /// bitsandbytes' NF4 and FP4.
    FourBit(FourBit),
    /// bitsandbytes' eight bits.
    Int8(Int8),
    /// FP8 by blocks.
    Fp8(Fp8),
    /// MXFP4.
    Mxfp4(Mxfp4),
    /// GPTQ.
    Gptq(Gptq),
    /// AWQ.
    Awq(Awq),
}

impl PackedMatrix {
    /// Rows: outputs of the layer.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: inputs of the layer.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The packed numbers.
    pub fn packing(&self) -> &Packing {
        &self.packing
    }

    /// The format.
    pub fn format(&self) -> Format {
        match &self.packing {
            Packing::FourBit(packed) => {
                Format::FourBit { kind: packed.kind, block: packed.block, double: packed.scales.is_double() }
            }
            Packing::Int8(_) => Format::Int8,
            Packing::Fp8(packed) => Format::Fp8 { block: packed.block },
            Packing::Mxfp4(_) => Format::Mxfp4,
            Packing::Gptq(packed) => {
                Format::Gptq { bits: packed.bits, group: packed.group, act_order: packed.groups.is_some() }
            }
            Packing::Awq(packed) => Format::Awq { group: packed.group },
        }
    }

    /// Bytes that it takes, without tables.
    pub fn byte_count(&self) -> u64 {
        self.format().byte_count(self.rows, self.columns)
    }

    /// The same matrix with scales in another order; a format without such blocks is left as it is.
    #[must_use]
    pub fn with_scale_order(mut self, order: ScaleOrder) -> Self {
        if let Packing::FourBit(packed) = &mut self.packing {
            packed.order = order;
        }
        self
    }

    /// Every other row, from one on; a matrix in another format than MXFP4 is left as it is. gpt-oss has the rows of two layers
    /// in turn.
    #[must_use]
    pub fn every_other_row(mut self, first: usize) -> Self {
        if let Packing::Mxfp4(packed) = &self.packing {
            self.packing = Packing::Mxfp4(packed.every_other_row(self.columns, first));
            self.rows = self.rows.saturating_sub(first).div_ceil(2);
        }
        self
    }

    /// Unpacks whole rows: `out` is [rows, columns].
    ///
    /// # Panics
    /// The range is not within the matrix, or `out` has another length.
    pub fn unpack_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        self.unpack_tile(rows, 0..self.columns, out);
    }

    /// Unpacks a part of the matrix, which may begin and end within a block: `out` is [rows, columns] of the part.
    ///
    /// # Panics
    /// A range is not within the matrix, or `out` has another length.
    pub fn unpack_tile(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        self.unpack_with(Instructions::Widest, Tile { rows, columns, out });
    }

    /// Unpacks a part of the matrix as [`PackedMatrix::unpack_tile`] does and rounds it to bfloat16.
    ///
    /// # Panics
    /// A range is not within the matrix, or `out` has another length.
    pub fn unpack_tile_bf16(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [bf16]) {
        assert_eq!(out.len(), rows.len() * columns.len(), "numbers of the tile");
        let mut piece = [0.0; SIXTEEN_BIT_PIECE];
        let mut rest = out;
        for row in rows {
            for start in columns.clone().step_by(SIXTEEN_BIT_PIECE) {
                let end = columns.end.min(start + SIXTEEN_BIT_PIECE);
                let piece = &mut piece[..end - start];
                self.unpack_tile(row..row + 1, start..end, piece);
                let (rounded, after) = rest.split_at_mut(piece.len());
                rounded.iter_mut().zip(&*piece).for_each(|(rounded, &number)| *rounded = bf16::from_f32(number));
                rest = after;
            }
        }
    }

    /// Row and column of the first number that is not finite.
    pub fn first_not_finite(&self) -> Option<(usize, usize)> {
        let Packing::Fp8(packed) = &self.packing else { return None };
        packed.first_nan().map(|position| (position / self.columns, position % self.columns))
    }

    /// Feeds everything that the numbers depend on to a hash, in a fixed order.
    pub fn feed(&self, hash: &mut dyn FnMut(&[u8])) {
        hash(format!("{:?} {} {}", self.format(), self.rows, self.columns).as_bytes());
        match &self.packing {
            Packing::FourBit(packed) => {
                hash(format!("{:?} {:?}", packed.rounded_to, packed.order).as_bytes());
                hash(bytemuck::cast_slice(&packed.table));
                hash(&packed.codes);
                match &packed.scales {
                    Scales::Float32(scales) => hash(scales),
                    Scales::Double(double) => {
                        hash(&double.codes);
                        hash(bytemuck::cast_slice(&double.nested));
                        hash(bytemuck::cast_slice(&double.table[..]));
                        hash(&double.offset.to_le_bytes());
                    }
                }
            }
            Packing::Int8(packed) => [&packed.codes, &packed.scales].into_iter().for_each(|bytes| hash(bytes)),
            Packing::Fp8(packed) => {
                hash(&packed.codes);
                hash(bytemuck::cast_slice(&packed.scales));
            }
            Packing::Mxfp4(packed) => [&packed.codes, &packed.exponents].into_iter().for_each(|bytes| hash(bytes)),
            Packing::Gptq(packed) => {
                hash(format!("{:?} {:?}", packed.zero_points, packed.scale_dtype).as_bytes());
                let parts = [Some(&packed.codes), Some(&packed.zeros), Some(&packed.scales), packed.groups.as_ref()];
                parts.into_iter().flatten().for_each(|bytes| hash(bytes));
            }
            Packing::Awq(packed) => {
                hash(packed.scale_dtype.name().as_bytes());
                [&packed.codes, &packed.zeros, &packed.scales].into_iter().for_each(|bytes| hash(bytes));
            }
        }
    }

    pub(crate) fn unpack_with(&self, instructions: Instructions, tile: Tile<'_>) {
        let Tile { rows, columns, out } = &tile;
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a tile of the matrix");
        assert_eq!(out.len(), rows.len() * columns.len(), "numbers of the tile");
        if out.is_empty() {
            return;
        }
        let (rows, columns) = (self.rows, self.columns);
        match &self.packing {
            Packing::FourBit(packed) => instructions.run(UnpackFourBit { packed, columns, tile }),
            Packing::Int8(packed) => instructions.run(UnpackInt8 { packed, columns, tile }),
            Packing::Fp8(packed) => instructions.run(UnpackFp8 { packed, columns, tile }),
            Packing::Mxfp4(packed) => instructions.run(UnpackMxfp4 { packed, columns, tile }),
            Packing::Gptq(packed) => instructions.run(UnpackGptq { packed, rows, tile }),
            Packing::Awq(packed) => instructions.run(UnpackAwq { packed, rows, tile }),
        }
    }
}
