//! Packing into four bits: each block by its largest magnitude.

use std::sync::Arc;

use bytes::Bytes;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::mean::mean;
use super::{bad_number, first};
use crate::dtype::Values;
use crate::error::QuantizedError;
use crate::four_bit::dynamic_map::{dynamic_map, nearest_code};
use crate::four_bit::{BLOCK_SIZES, DoubleScales, FourBit, FourBitKind, NESTED_BLOCK, ScaleOrder, Scales};
use crate::unpack::largest_magnitude;

/// What to pack into.
#[derive(Clone, Copy)]
pub(super) struct Options {
    pub(super) kind: FourBitKind,
    pub(super) block: usize,
    pub(super) double: bool,
}

/// Below this, bitsandbytes does not divide by a largest magnitude but by this number.
const SMALLEST: f32 = 1e-38;
/// Numbers that are compared with the midpoints at once, a divisor of every block size.
const AT_ONCE: usize = 32;
/// Numbers that a thread packs at a time.
const PIECE: usize = 1 << 15;

/// Packs the matrix as one list, row after row.
pub(super) fn pack(values: Values<'_>, columns: usize, options: Options) -> Result<FourBit, QuantizedError> {
    let Options { kind, block, double } = options;
    if !BLOCK_SIZES.contains(&block) {
        return Err(QuantizedError::BlockSize(block));
    }
    let count = values.len();
    let mut codes = vec![0u8; count.div_ceil(2)];
    let mut scales = vec![0f32; count.div_ceil(block)];
    let steps = Steps::new(kind);
    let pieces = codes.par_chunks_mut(PIECE / 2).zip(scales.par_chunks_mut(PIECE / block)).enumerate();
    let bad = pieces.map_init(
        || vec![0.0; PIECE],
        |numbers, (piece, (codes, scales))| {
            let start = piece * PIECE;
            let numbers = &mut numbers[..PIECE.min(count - start)];
            values.copy_to(start, numbers);
            Arch::new().dispatch(PackBlocks { steps: &steps, block, numbers, codes, scales });
            numbers.iter().position(|x| x.is_nan()).map(|at| start + at)
        },
    );
    if let Some(position) = bad.reduce(|| None, first) {
        return Err(bad_number(values, position, columns, kind.name()));
    }
    let scales = if double { Scales::Double(pack_scales(&scales)) } else { Scales::Float32(little_endian(&scales)) };
    Ok(FourBit {
        kind,
        table: kind.table(),
        block,
        codes: Bytes::from(codes),
        scales,
        rounded_to: values.dtype(),
        order: ScaleOrder::Flat,
    })
}

/// Packs some blocks.
struct PackBlocks<'a> {
    steps: &'a Steps,
    block: usize,
    numbers: &'a mut [f32],
    codes: &'a mut [u8],
    scales: &'a mut [f32],
}

impl NullaryFnOnce for PackBlocks<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { steps, block, numbers, codes, scales } = self;
        for ((numbers, codes), scale) in numbers.chunks_mut(block).zip(codes.chunks_mut(block / 2)).zip(scales) {
            *scale = scale_block(numbers, block);
            steps.pack(numbers, codes);
        }
    }
}

/// Limits a number to ±1 by comparisons, which pass NaN on.
#[inline(always)]
fn within(x: f32) -> f32 {
    let below = if x > 1.0 { 1.0 } else { x };
    if below < -1.0 { -1.0 } else { below }
}

/// Divides a block by its largest magnitude and returns that. A block with an infinite number gets a NaN in its place.
#[inline(always)]
fn scale_block(numbers: &mut [f32], block: usize) -> f32 {
    let largest = largest_magnitude(numbers);
    let divisor = largest.max(SMALLEST);
    // bitsandbytes divides the numbers of a last, partial block, and keeps what it divided by.
    let partial = numbers.len() < block;
    if partial {
        numbers.iter_mut().for_each(|x| *x = within(*x / divisor));
    } else {
        let factor = 1.0 / divisor;
        numbers.iter_mut().for_each(|x| *x = within(*x * factor));
    }
    if partial { divisor } else { largest }
}

/// Where one code ends and the next begins.
struct Steps {
    kind: FourBitKind,
    /// Midpoints between neighboring numbers.
    midpoints: [f32; 15],
    /// The codes from the lowest number to the highest.
    order: [u8; 16],
}

impl Steps {
    fn new(kind: FourBitKind) -> Self {
        let table = kind.table();
        let order = match kind {
            FourBitKind::Nf4 => std::array::from_fn(|code| code as u8),
            FourBitKind::Fp4 => [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3],
        };
        let number = |rank: usize| table[usize::from(order[rank])];
        Self { kind, midpoints: std::array::from_fn(|rank| (number(rank) + number(rank + 1)) / 2.0), order }
    }

    /// The codes of a block, two a byte; a last, odd number is followed by zero.
    #[inline(always)]
    fn pack(&self, numbers: &[f32], codes: &mut [u8]) {
        let mut ranks = [0u8; AT_ONCE];
        for (numbers, codes) in numbers.chunks(AT_ONCE).zip(codes.chunks_mut(AT_ONCE / 2)) {
            for (rank, &x) in ranks.iter_mut().zip(numbers) {
                *rank = self.rank(x);
            }
            if numbers.len() % 2 == 1 {
                ranks[numbers.len()] = self.rank(0.0);
            }
            if self.kind == FourBitKind::Fp4 {
                ranks = ranks.map(|rank| self.order[usize::from(rank & 15)]);
            }
            for (byte, &[even, odd]) in codes.iter_mut().zip(ranks.as_chunks::<2>().0) {
                *byte = even << 4 | odd;
            }
        }
    }

    /// How many midpoints are below a number: it gets the lower code at an exact one.
    #[inline(always)]
    fn rank(&self, x: f32) -> u8 {
        self.midpoints.iter().map(|&midpoint| u32::from(x > midpoint)).sum::<u32>() as u8
    }
}

/// Packs scales into a byte each, less their mean, in blocks of 256.
fn pack_scales(scales: &[f32]) -> DoubleScales {
    let offset = mean(scales);
    let mut codes = vec![0u8; scales.len()];
    let blocks = scales.chunks(NESTED_BLOCK).zip(codes.chunks_mut(NESTED_BLOCK));
    let nested = blocks.map(|(scales, codes)| {
        let largest = scales.iter().fold(0.0f32, |largest, scale| largest.max((scale - offset).abs()));
        if largest > 0.0 {
            let factor = 1.0 / largest;
            codes.iter_mut().zip(scales).for_each(|(code, scale)| *code = nearest_code((scale - offset) * factor));
        }
        largest
    });
    let nested: Arc<[f32]> = nested.collect();
    DoubleScales { codes: Bytes::from(codes), table: dynamic_map(), nested, nested_block: NESTED_BLOCK, offset }
}

fn little_endian(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
}
