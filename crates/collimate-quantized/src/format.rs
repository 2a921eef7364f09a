//! Formats by name, and how many bytes they take.

use std::fmt;

use crate::four_bit::{FourBitKind, NESTED_BLOCK};

/// A format of packed weights, without weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// bitsandbytes' four bits.
    FourBit {
        /// Which codes.
        kind: FourBitKind,
        /// Numbers that share a scale.
        block: usize,
        /// Whether the scales are quantized too.
        double: bool,
    },
    /// bitsandbytes' eight bits.
    Int8,
    /// E4M3 with a scale for each rectangle.
    Fp8 {
        /// Rows and columns of a rectangle; `None` for one scale a matrix.
        block: Option<[usize; 2]>,
    },
    /// Four bits with a power of two for each 32.
    Mxfp4,
    /// Integers by groups of columns, packed along columns.
    Gptq {
        /// Bits of a code.
        bits: u32,
        /// Columns of a group.
        group: usize,
        /// Whether groups are not consecutive columns.
        act_order: bool,
    },
    /// Integers of four bits by groups of columns, packed along rows.
    Awq {
        /// Columns of a group.
        group: usize,
    },
}

impl Format {
    /// NF4 in blocks of 64, as `load_in_4bit` packs.
    pub const NF4: Self = Self::FourBit { kind: FourBitKind::Nf4, block: 64, double: false };
    /// NF4 in blocks of 64 with double quantization.
    pub const NF4_DOUBLE: Self = Self::FourBit { kind: FourBitKind::Nf4, block: 64, double: true };

    /// Bytes of a packed matrix, without tables of 16 or 256 numbers.
    pub fn byte_count(self, rows: usize, columns: usize) -> u64 {
        let (rows, columns) = (rows as u64, columns as u64);
        let count = rows.saturating_mul(columns);
        match self {
            Self::FourBit { block, double, .. } => {
                let blocks = count.div_ceil(block as u64);
                let scales = if double { blocks + 4 * blocks.div_ceil(NESTED_BLOCK as u64) } else { 4 * blocks };
                count.div_ceil(2) + scales
            }
            Self::Int8 => count + 4 * rows,
            Self::Fp8 { block: None } => count + 4,
            Self::Fp8 { block: Some(block) } => {
                count + 4 * rows.div_ceil(block[0] as u64) * columns.div_ceil(block[1] as u64)
            }
            Self::Mxfp4 => count / 2 + count / 32,
            Self::Gptq { bits, group, act_order } => {
                let groups = columns.div_ceil(group as u64);
                let scales = groups * rows * u64::from(bits) / 8 + 2 * groups * rows;
                count * u64::from(bits) / 8 + scales + if act_order { 4 * columns } else { 0 }
            }
            Self::Awq { group } => {
                let groups = columns.div_ceil(group as u64);
                count / 2 + groups * rows / 2 + 2 * groups * rows
            }
        }
    }

    /// Bits that a weight of a large matrix takes, scales included.
    pub fn bits_per_weight(self) -> f64 {
        const SIDE: usize = 1 << 14;
        8.0 * self.byte_count(SIDE, SIDE) as f64 / (SIDE * SIDE) as f64
    }

    /// The format of this name that weights can be packed into; `None` for another name, such as `none`.
    pub fn to_pack_into(name: &str) -> Option<Self> {
        [Self::NF4, Self::NF4_DOUBLE, Self::Int8].into_iter().find(|format| format.name() == name)
    }

    /// The name in recipes and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::FourBit { kind: FourBitKind::Nf4, double: false, .. } => "nf4",
            Self::FourBit { kind: FourBitKind::Nf4, double: true, .. } => "nf4-double",
            Self::FourBit { kind: FourBitKind::Fp4, double: false, .. } => "fp4",
            Self::FourBit { kind: FourBitKind::Fp4, double: true, .. } => "fp4-double",
            Self::Int8 => "int8",
            Self::Fp8 { .. } => "fp8",
            Self::Mxfp4 => "mxfp4",
            Self::Gptq { .. } => "gptq",
            Self::Awq { .. } => "awq",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::FourBit { block: 64, .. } | Self::Int8 | Self::Fp8 { block: None } | Self::Mxfp4 => Ok(()),
            Self::FourBit { block, .. } => write!(f, " in blocks of {block}"),
            Self::Fp8 { block: Some([rows, columns]) } => write!(f, " in blocks of {rows} × {columns}"),
            Self::Gptq { bits, group, act_order } => {
                let order = if *act_order { ", act-order" } else { "" };
                write!(f, " ({bits} bits, groups of {group}{order})")
            }
            Self::Awq { group } => write!(f, " (4 bits, groups of {group})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_a_weight_include_its_scales() {
        assert_eq!(Format::NF4.bits_per_weight(), 4.5);
        assert_eq!(Format::NF4_DOUBLE.bits_per_weight(), 4.0 + 8.0 / 64.0 + 32.0 / (64.0 * 256.0));
        assert_eq!(Format::Mxfp4.bits_per_weight(), 4.25);
        assert_eq!(Format::Int8.bits_per_weight(), 8.0 + 32.0 / 16_384.0);
        assert_eq!(Format::Awq { group: 128 }.bits_per_weight(), 4.0 + (4.0 + 16.0) / 128.0);
        let gptq = Format::Gptq { bits: 4, group: 128, act_order: false };
        assert_eq!(gptq.bits_per_weight(), 4.0 + (4.0 + 16.0) / 128.0);
    }

    #[test]
    fn bytes_of_a_last_partial_block_are_counted() {
        // 3 × 51 numbers: 77 bytes and 3 scales of 4 bytes, or of one and a scale for them.
        assert_eq!(Format::NF4.byte_count(3, 51), 77 + 12);
        assert_eq!(Format::NF4_DOUBLE.byte_count(3, 51), 77 + 3 + 4);
    }
}
