//! Products of bfloat16 factors in bfloat16 or float32: whatever the instructions, one function for each kind of weight.

use std::ops::Range;

use half::bf16;

use super::driver::Scale;
use super::instructions::Instructions;
use super::product::Product;
use super::widened::{self, Widened};
use super::{Bfloat16Matrix, panels};
use crate::element::{Element, Start, in_float32};
use crate::gemm::{Matrix, PackedWeight, multiply_packed};
use crate::simd::dispatch;

impl<'a> From<Matrix<'a, bf16>> for Bfloat16Matrix<'a> {
    fn from(matrix: Matrix<'a, bf16>) -> Self {
        match matrix.transposed {
            true => Self::transpose_of(matrix.data, matrix.rows, matrix.columns),
            false => Self::new(matrix.data, matrix.rows, matrix.columns),
        }
    }
}

/// `out = alpha · a · b`, added to `out` with `accumulate`, as by [`multiply_bfloat16`](super::multiply_bfloat16); `out` is
/// [a.rows, b.columns].
///
/// Sums are in float32, that with what `out` holds too, and the result is rounded once.
///
/// # Panics
/// If the sizes do not fit each other or the slices.
pub fn multiply_bf16<T: Element>(
    out: &mut [T],
    accumulate: bool,
    alpha: f32,
    a: Matrix<'_, bf16>,
    b: Matrix<'_, bf16>,
) {
    product(Scale { alpha, accumulate }, out, a.into(), b.into());
}

/// [`multiply_bf16`] of any rows.
pub(super) fn product<T: Element>(scale: Scale, out: &mut [T], a: Bfloat16Matrix<'_>, b: Bfloat16Matrix<'_>) {
    match Instructions::fastest() {
        Some(instructions) => {
            Product { instructions, scale }.of_lanes(out, &[&a.lanes()], &[&b.transpose().lanes()], &[[0, 0]]);
        }
        None => in_float32(out, Start::of(scale.accumulate), |out| {
            widened::multiply(out, scale.accumulate, scale.alpha, a, b);
        }),
    }
}

/// `out = alpha · a · weight`, or `alpha · a · weightᵀ` with `transposed`, added to `out` with `accumulate`, where each number
/// of the weight is rounded to bfloat16; otherwise as [`multiply_bf16`].
///
/// Panel by panel, each unpacked once and multiplied by the same instructions as plain factors.
///
/// # Panics
/// If the sizes do not fit each other or the slices.
pub fn multiply_packed_bf16<T: Element>(
    out: &mut [T],
    accumulate: bool,
    alpha: f32,
    a: Matrix<'_, bf16>,
    weight: &dyn PackedWeight,
    transposed: bool,
) {
    packed(Instructions::fastest(), out, Scale { alpha, accumulate }, a.into(), weight, transposed);
}

/// [`multiply_packed_bf16`] with given instructions.
fn packed<T: Element>(
    instructions: Option<Instructions>,
    out: &mut [T],
    scale: Scale,
    a: Bfloat16Matrix<'_>,
    weight: &dyn PackedWeight,
    transposed: bool,
) {
    match instructions {
        Some(instructions) => panels::multiply(Product { instructions, scale }, out, &a.lanes(), weight, transposed),
        None => in_float32(out, Start::of(scale.accumulate), |out| {
            let (a, weight) = (Widened::new(a), Rounded(weight));
            multiply_packed(out, scale.accumulate, scale.alpha, a.matrix(), &weight, transposed);
        }),
    }
}

/// A weight whose numbers are rounded to bfloat16.
struct Rounded<'a>(&'a dyn PackedWeight);

impl PackedWeight for Rounded<'_> {
    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn columns(&self) -> usize {
        self.0.columns()
    }

    fn unpack(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        self.0.unpack(rows, columns, out);
        dispatch(
            #[inline(always)]
            || out.iter_mut().for_each(|x| *x = bf16::narrow(*x).widen()),
        );
    }
}

#[cfg(test)]
mod tests;
