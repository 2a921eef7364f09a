//! bitsandbytes' four bits: NF4 and FP4, with a scale for each block of numbers.

pub(crate) mod dynamic_map;

use std::sync::Arc;

use bytes::Bytes;

use crate::dtype::{FloatDtype, read_f32};
use crate::unpack::{Expand, Kernel, Tile, look_up};

/// Block sizes that bitsandbytes knows.
pub(crate) const BLOCK_SIZES: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];
/// Scales that share a scale of their own, where scales are quantized too.
pub(crate) const NESTED_BLOCK: usize = 256;

/// Which 16 numbers the codes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FourBitKind {
    /// Quantiles of a normal distribution.
    Nf4,
    /// Floats with a sign, two bits of exponent and one of fraction, the largest being 1.
    Fp4,
}

impl FourBitKind {
    /// The name in files and recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nf4 => "nf4",
            Self::Fp4 => "fp4",
        }
    }

    /// The number that each code stands for, before its block's scale.
    pub fn table(self) -> [f32; 16] {
        match self {
            Self::Nf4 => NF4,
            Self::Fp4 => FP4,
        }
    }
}

const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Twelfths, since bitsandbytes divides by the largest number, 12.
const FP4: [f32; 16] = [
    0.0,
    0.0625 / 12.0,
    8.0 / 12.0,
    1.0,
    4.0 / 12.0,
    6.0 / 12.0,
    2.0 / 12.0,
    3.0 / 12.0,
    0.0,
    -0.0625 / 12.0,
    -8.0 / 12.0,
    -1.0,
    -4.0 / 12.0,
    -6.0 / 12.0,
    -2.0 / 12.0,
    -3.0 / 12.0,
];

/// Which scale a number has, where rows are not a whole number of blocks.
///
/// Blocks are cut from the matrix as one list, row after row, and that is how every version of bitsandbytes packs. Its
/// kernel for processors with AVX-512 reads the scales otherwise, which unpacks such matrices to other numbers than were
/// packed; real models' rows are whole blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ScaleOrder {
    /// By position in the matrix: position / block.
    #[default]
    Flat,
    /// As bitsandbytes 0.50 unpacks with AVX-512: row · ⌊columns / block⌋ + column / block, where columns are a multiple of
    /// 16 and blocks are below 2048; elsewhere flat.
    FlooredRows,
}

/// Codes of four bits, two a byte, the even position in the high half; and the scales of their blocks.
#[derive(Clone, Debug)]
pub struct FourBit {
    pub(crate) kind: FourBitKind,
    pub(crate) table: [f32; 16],
    pub(crate) block: usize,
    pub(crate) codes: Bytes,
    pub(crate) scales: Scales,
    pub(crate) rounded_to: FloatDtype,
    pub(crate) order: ScaleOrder,
}

impl FourBit {
    /// Which codes they are.
    pub fn kind(&self) -> FourBitKind {
        self.kind
    }

    /// The number that each code stands for, before its block's scale; a file may have its own.
    pub fn table(&self) -> &[f32; 16] {
        &self.table
    }

    /// Numbers that share a scale.
    pub fn block(&self) -> usize {
        self.block
    }

    /// The packed codes.
    pub fn codes(&self) -> &Bytes {
        &self.codes
    }

    /// The scales of the blocks.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// The type that unpacked weights are rounded to: that of the weights that were packed, as in bitsandbytes.
    pub fn rounded_to(&self) -> FloatDtype {
        self.rounded_to
    }

    /// Which scale a number has.
    pub fn scale_order(&self) -> ScaleOrder {
        self.order
    }

    /// The position by which a row's first number finds its scale.
    #[inline(always)]
    fn scale_position(&self, row: usize, columns: usize) -> usize {
        let floored = self.order == ScaleOrder::FlooredRows && columns.is_multiple_of(16) && self.block < 2048;
        if floored { row * (columns / self.block) * self.block } else { row * columns }
    }
}

/// A scale for each block.
#[derive(Clone, Debug)]
pub enum Scales {
    /// Little-endian float32.
    Float32(Bytes),
    /// One byte for each, with scales of their own: double quantization.
    Double(DoubleScales),
}

impl Scales {
    /// The scale of a block.
    #[inline(always)]
    pub fn get(&self, block: usize) -> f32 {
        match self {
            Self::Float32(bytes) => read_f32(bytes, block),
            Self::Double(double) => double.get(block),
        }
    }

    /// How many blocks there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Float32(bytes) => bytes.len() / 4,
            Self::Double(double) => double.codes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the scales are quantized too.
    pub fn is_double(&self) -> bool {
        matches!(self, Self::Double(_))
    }
}

/// Scales of one byte each: `table[code] · nested[block / nested_block] + offset`.
#[derive(Clone, Debug)]
pub struct DoubleScales {
    pub(crate) codes: Bytes,
    pub(crate) table: Arc<[f32; 256]>,
    pub(crate) nested: Arc<[f32]>,
    pub(crate) nested_block: usize,
    pub(crate) offset: f32,
}

impl DoubleScales {
    /// The codes of the blocks' scales.
    pub fn codes(&self) -> &Bytes {
        &self.codes
    }

    /// What the codes stand for.
    pub fn table(&self) -> &[f32; 256] {
        &self.table
    }

    /// The scales of the scales.
    pub fn nested(&self) -> &[f32] {
        &self.nested
    }

    /// Scales that share a scale.
    pub fn nested_block(&self) -> usize {
        self.nested_block
    }

    /// What is added: the mean of the scales.
    pub fn offset(&self) -> f32 {
        self.offset
    }

    #[inline(always)]
    fn get(&self, block: usize) -> f32 {
        // The product is rounded before the sum, so not a fused multiply-add.
        self.table[usize::from(self.codes[block])] * self.nested[block >> self.nested_block.trailing_zeros()]
            + self.offset
    }
}

/// Unpacks rows of a tile.
pub(crate) struct UnpackFourBit<'a> {
    pub(crate) packed: &'a FourBit,
    pub(crate) columns: usize,
    pub(crate) tile: Tile<'a>,
}

impl Kernel for UnpackFourBit<'_> {
    #[inline(always)]
    fn run(self, expand: impl Expand) {
        // The choices are made here, not for each block.
        let packed = self.packed;
        match &packed.scales {
            Scales::Float32(bytes) => self.rounded(expand, |block| read_f32(bytes, block)),
            Scales::Double(double) => self.rounded(expand, |block| double.get(block)),
        }
    }
}

impl UnpackFourBit<'_> {
    #[inline(always)]
    fn rounded(self, expand: impl Expand, scale: impl Fn(usize) -> f32) {
        match self.packed.rounded_to {
            FloatDtype::F32 => self.rows(expand, scale, |x| x),
            FloatDtype::Bf16 => self.rows(expand, scale, |x| FloatDtype::Bf16.round(x)),
            FloatDtype::F16 => self.rows(expand, scale, |x| FloatDtype::F16.round(x)),
        }
    }

    #[inline(always)]
    fn rows(self, expand: impl Expand, scale: impl Fn(usize) -> f32, round: impl Fn(f32) -> f32) {
        let Self { packed, columns, tile } = self;
        let (width, table) = (tile.columns.len(), packed.table);
        // Block sizes are powers of two.
        let (shift, within) = (packed.block.trailing_zeros(), packed.block - 1);
        for (row, out) in tile.rows.clone().zip(tile.out.chunks_exact_mut(width)) {
            let mut code = row * columns + tile.columns.start;
            let mut position = packed.scale_position(row, columns) + tile.columns.start;
            let mut rest = out;
            while !rest.is_empty() {
                let count = rest.len().min(packed.block - (position & within));
                let (piece, after) = rest.split_at_mut(count);
                let factor = scale(position >> shift);
                let mut scaled = [0.0; 16];
                for (scaled, number) in scaled.iter_mut().zip(table) {
                    *scaled = round(number * factor);
                }
                look_up::<false>(expand, &scaled, &packed.codes, code, piece);
                (code, position, rest) = (code + count, position + count, after);
            }
        }
    }
}
