//! Products of float32 numbers by way of bfloat16.

use super::driver::Scale;
use super::instructions::Instructions;
use super::pack::{Lanes, Rest, Rounded};
use super::product::Product;
use crate::gemm::precision::{MatmulPrecision, float32_matmul_precision};
use crate::gemm::{Matrix, View, multiply};

/// Products of float32 numbers as sums of one or three products of bfloat16 numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Split {
    pub(super) instructions: Instructions,
    pub(super) precision: MatmulPrecision,
}

impl MatmulPrecision {
    /// How exact products are on this processor: where a lower precision would not be faster, they are in float32, as in PyTorch.
    /// [`MatmulPrecision::High`] needs AMX, [`MatmulPrecision::Medium`] instructions for bfloat16 of any kind.
    pub fn on_this_processor(self) -> Self {
        if Split::new(self).is_some() { self } else { Self::Highest }
    }
}

impl Split {
    /// What computes products; `None` if they are computed in float32.
    pub(crate) fn in_force() -> Option<Self> {
        Self::new(float32_matmul_precision())
    }

    /// For a precision; `None` if this would not be faster than float32.
    pub(crate) fn new(precision: MatmulPrecision) -> Option<Self> {
        let is_worth_it = |instructions: &Instructions| match precision {
            MatmulPrecision::Highest => false,
            MatmulPrecision::High => instructions.outrun_float32_threefold(),
            MatmulPrecision::Medium => true,
        };
        // The first comparison spares products in float32 the search for instructions.
        let instructions = if precision == MatmulPrecision::Highest { None } else { Instructions::fastest() };
        Some(Self { instructions: instructions.filter(is_worth_it)?, precision })
    }

    /// With each of the instructions that can be tested on this machine.
    #[cfg(test)]
    pub(crate) fn testable(precision: MatmulPrecision) -> Vec<Self> {
        Instructions::testable().into_iter().map(|instructions| Self { instructions, precision }).collect()
    }

    /// `out = alpha · a · b`, added to `out` with `accumulate`.
    ///
    /// # Panics
    /// If the sizes do not fit each other or `out`, or a view is not sound.
    pub(crate) fn multiply(self, out: &mut [f32], accumulate: bool, alpha: f32, a: View<'_>, b: View<'_>) {
        assert!(a.is_sound() && b.is_sound(), "the size of a factor");
        let product = Product { instructions: self.instructions, scale: Scale { alpha, accumulate } };
        let b = b.transpose();
        let a: [&dyn Lanes<'_>; 2] = [&a.lanes::<Rounded>(), &a.lanes::<Rest>()];
        let b: [&dyn Lanes<'_>; 2] = [&b.lanes::<Rounded>(), &b.lanes::<Rest>()];
        match self.precision {
            MatmulPrecision::Medium => product.of_lanes(out, &a[..1], &b[..1], &[[0, 0]]),
            _ => product.of_lanes(out, &a, &b, &[[0, 1], [1, 0], [0, 0]]),
        }
    }
}

/// `out = alpha · a · b`, added to `out` with `accumulate`, where a product of numbers needs only this precision; sums are in
/// float32.
///
/// Where this would not be faster ([`MatmulPrecision::on_this_processor`]), the product is that of [`multiply`]. The bounds of
/// [`MatmulPrecision`] hold for numbers between 2⁻¹⁰⁰ and 2¹⁰⁰: what falls below 2⁻¹²⁶ is zero, and a factor that is infinite,
/// or rounded to infinity, makes its products infinite or NaN.
///
/// # Panics
/// If the sizes do not fit each other or the slices.
pub fn multiply_split(
    out: &mut [f32],
    accumulate: bool,
    alpha: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    precision: MatmulPrecision,
) {
    match Split::new(precision) {
        Some(split) => split.multiply(out, accumulate, alpha, a.into(), b.into()),
        None => multiply(out, accumulate, alpha, a, b),
    }
}
