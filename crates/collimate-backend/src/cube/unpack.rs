//! Kernels that unpack weights to the bits that [`PackedMatrix`](collimate_quantized::PackedMatrix) unpacks them to.
//!
//! Drivers and compilers may join a product and a sum into one operation, cancel additions and divide approximately. So what
//! must be rounded passes through integers ([`kept`]), and the only division is one of integers. Numbers below 2⁻¹¹⁹ are
//! the exception: devices may flush those that float32 holds with fewer digits to zero.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::tensor::CubeTensor;
use collimate_quantized::FloatDtype;
use cubecl::prelude::*;

use super::buffers::array;
use super::cubes::{UNITS, over, over_numbers};

/// Numbers that codes of four bits stand for.
const TABLE: u32 = 16;
/// Numbers that codes of scales stand for.
const SCALE_TABLE: u32 = 256;
/// Where what is added to scales is, after both tables; the scales of scales follow it.
const OFFSET: u32 = TABLE + SCALE_TABLE;
/// Codes of four bits in a word.
const CODES: u32 = 8;

/// What a kernel for four bits is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FourBitForm {
    /// Numbers that share a scale.
    pub(super) block: u32,
    /// Whether scales are codes themselves.
    pub(super) double: bool,
    /// Whether scales are found as with [`ScaleOrder::FlooredRows`](collimate_quantized::ScaleOrder::FlooredRows).
    pub(super) floored_rows: bool,
    /// What unpacked weights are rounded to.
    pub(super) rounded_to: FloatDtype,
}

/// Unpacks NF4 and FP4 into `out`, [rows, columns].
///
/// `codes` are those of the numbers and, from a word of their own on, those of the scales. `floats` are the table of
/// numbers, and scales or the table of scales, what is added to them, and the scales of scales.
pub(super) fn four_bit<R: CubeRuntime>(
    form: FourBitForm,
    codes: CubeTensor<R>,
    floats: CubeTensor<R>,
    nested_block: u32,
    out: CubeTensor<R>,
) -> CubeTensor<R> {
    let (count, columns) = (out.meta.num_elements(), out.meta.shape()[1] as u32);
    let floored_rows = form.floored_rows && columns.is_multiple_of(16) && form.block < 2048;
    let (client, dtype) = (out.client.clone(), out.dtype);
    four_bit_kernel::launch::<R>(
        &client,
        over_numbers(count),
        CubeDim::new_1d(UNITS),
        array(codes),
        array(floats),
        array(out.clone()),
        count as u32,
        columns,
        (count as u32).div_ceil(CODES),
        nested_block,
        0,
        FourBitForm { floored_rows, ..form },
        dtype.into(),
    );
    out
}

#[cube(launch)]
#[expect(clippy::too_many_arguments)] // what a kernel reads
fn four_bit_kernel<F: Float>(
    codes: &Array<u32>,
    floats: &Array<f32>,
    out: &mut Array<F>,
    count: u32,
    columns: u32,
    scale_words: u32,
    nested_block: u32,
    zero: u32,
    #[comptime] form: FourBitForm,
    #[define(F)] _dtype: StorageType,
) {
    let mut i = ABSOLUTE_POS as u32;
    while i < count {
        // The even number of a byte is in its high half.
        let code = (codes[(i / CODES) as usize] >> (((i % CODES) ^ 1) * 4)) & 15;
        let block = if form.floored_rows {
            let row = i / columns;
            row * (columns / form.block) + (i - row * columns) / form.block
        } else {
            i / form.block
        };
        let scale = if form.double {
            let scale = (codes[(scale_words + block / 4) as usize] >> (block % 4 * 8)) & 255;
            let nested = floats[(OFFSET + 1 + block / nested_block) as usize];
            // Rounded before the sum.
            kept(floats[(TABLE + scale) as usize] * nested, zero) + floats[OFFSET as usize]
        } else {
            floats[(TABLE + block) as usize]
        };
        out[i as usize] = F::cast_from(rounded(floats[code as usize] * scale, zero, form.rounded_to));
        i += CUBE_COUNT as u32 * UNITS;
    }
}

/// Unpacks bitsandbytes' eight bits into `out`, [rows, columns]; `scales` has one number a row.
pub(super) fn int8<R: CubeRuntime>(codes: CubeTensor<R>, scales: CubeTensor<R>, out: CubeTensor<R>) -> CubeTensor<R> {
    let [rows, columns] = [out.meta.shape()[0] as u32, out.meta.shape()[1] as u32];
    let (client, dtype) = (out.client.clone(), out.dtype);
    int8_kernel::launch::<R>(
        &client,
        over(rows),
        CubeDim::new_1d(UNITS),
        array(codes),
        array(scales),
        array(out.clone()),
        rows,
        columns,
        dtype.into(),
    );
    out
}

#[cube(launch)]
fn int8_kernel<F: Float>(
    codes: &Array<u32>,
    scales: &Array<f32>,
    out: &mut Array<F>,
    rows: u32,
    columns: u32,
    #[define(F)] _dtype: StorageType,
) {
    let mut row = CUBE_POS as u32;
    while row < rows {
        let scale = scales[row as usize];
        let mut column = UNIT_POS;
        while column < columns {
            let i = row * columns + column;
            let byte = (codes[(i / 4) as usize] >> (i % 4 * 8)) & 255;
            let code = f32::cast_from(byte ^ 128) - 128.0;
            out[i as usize] = F::cast_from(over_127(code * scale));
            column += UNITS;
        }
        row += CUBE_COUNT as u32;
    }
}

/// x / 127, rounded to the nearest: 2⁷ or 2⁶ times the significand, as an integer, is divided by 127.
#[cube]
fn over_127(x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    let exponent = (bits >> 23) & 255;
    let significand = (bits & 0x007f_ffff) | 0x0080_0000;
    // From 127 · 2¹⁷ on, 2⁷ times it would have a quotient of 25 bits.
    let shift = select(significand < 0x00fe_0000, 7u32, 6u32);
    let dividend = significand << shift;
    let quotient = dividend / 127;
    // 127 is odd, so the remainder is never a half.
    let nearest = quotient + select(dividend - quotient * 127 > 63, 1u32, 0u32);
    let divided = (bits & 0x8000_0000u32) | (((exponent - shift) << 23) + (nearest - 0x0080_0000));
    select(exponent > 7, f32::reinterpret(divided), x / 127.0)
}

/// x. Compilers do not know that `zero` is zero, so they cannot join the operation that x results from with the next one.
#[cube]
fn kept(x: f32, zero: u32) -> f32 {
    f32::reinterpret(u32::reinterpret(x) ^ zero)
}

/// A finite number rounded to a type, to even at a midpoint.
#[cube]
fn rounded(x: f32, zero: u32, #[comptime] to: FloatDtype) -> f32 {
    let bits = u32::reinterpret(x);
    match to {
        FloatDtype::F32 => x,
        FloatDtype::Bf16 => f32::reinterpret((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000u32),
        FloatDtype::F16 => {
            let sign = bits & 0x8000_0000u32;
            let magnitude = x.abs();
            let normal = (bits + 0x0fff + ((bits >> 13) & 1)) & 0x7fff_e000;
            // The distance between numbers from a half on is that between subnormal numbers of float16.
            let small = u32::reinterpret(kept(magnitude + 0.5, zero) - 0.5);
            // 2⁻¹⁴, the smallest normal number.
            let rounded = select(magnitude < 6.103_515_6e-5, small, normal);
            // Infinite from 2¹⁶ on.
            f32::reinterpret(sign | select(rounded < 0x4780_0000, rounded, 0x7f80_0000u32))
        }
    }
}
