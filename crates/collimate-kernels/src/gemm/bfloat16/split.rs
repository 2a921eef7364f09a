//! Products of float32 numbers by way of bfloat16.

use super::driver::Scale;
use super::instructions::Instructions;
use super::pack::{Lanes, Rest, Rounded};
use super::product::Product;
use crate::gemm::{Matrix, View, multiply};

/// How exact a product of float32 numbers has to be, as in PyTorch's `float32_matmul_precision`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Each number is the sum of two bfloat16 numbers; three products are added: high · low, low · high and high · high. The error of a product is
    /// at most 2⁻¹⁵ of it.
    High,
    /// Each number is rounded to bfloat16. The error of a product is at most 2⁻⁷ + 2⁻¹⁶ of it.
    Medium,
}

/// `out = alpha · a · b`, added to `out` with `accumulate`, where a product of numbers needs only this precision; sums are in
/// float32.
///
/// If this would not be faster than [`multiply`], the product is that, as in PyTorch: without instructions for bfloat16, and at
/// [`Precision::High`] without AMX. The bounds of [`Precision`] hold for numbers between 2⁻¹⁰⁰ and 2¹⁰⁰: what falls below 2⁻¹²⁶ is zero, and a
/// factor that is infinite, or rounded to infinity, makes its products infinite or NaN.
///
/// # Panics
/// If the sizes do not fit each other or the slices.
pub fn multiply_split(
    out: &mut [f32],
    accumulate: bool,
    alpha: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    precision: Precision,
) {
    let is_worth_it = |i: &Instructions| precision == Precision::Medium || i.outrun_float32_threefold();
    match Instructions::fastest().filter(is_worth_it) {
        Some(instructions) => {
            split(Product { instructions, scale: Scale { alpha, accumulate } }, out, a, b, precision);
        }
        None => multiply(out, accumulate, alpha, a, b),
    }
}

/// [`multiply_split`] with given instructions.
pub(super) fn split(product: Product, out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, precision: Precision) {
    let (a, b) = (View::from(a), View::from(b).transpose());
    assert!(a.is_sound() && b.is_sound(), "the size of a factor");
    let a: [&dyn Lanes; 2] = [&a.lanes::<Rounded>(), &a.lanes::<Rest>()];
    let b: [&dyn Lanes; 2] = [&b.lanes::<Rounded>(), &b.lanes::<Rest>()];
    match precision {
        Precision::High => product.of_lanes(out, &a, &b, &[[0, 1], [1, 0], [0, 0]]),
        Precision::Medium => product.of_lanes(out, &a[..1], &b[..1], &[[0, 0]]),
    }
}
