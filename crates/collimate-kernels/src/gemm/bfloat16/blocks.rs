//! Products of the blocks that kernels compute themselves, on the calling thread.

use super::driver::{Packed, Scale, Target, product};
use super::instructions::Instructions;
use super::pack::{Order, Rounded, pack};
use super::tile::{DEPTH, SIDE};
use crate::element::Element;
use crate::gemm::{View, multiply_here};

/// How blocks are multiplied that are held in float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockProducts(Option<Instructions>);

impl BlockProducts {
    /// In float32.
    #[cfg(test)]
    pub(crate) const FLOAT32: Self = Self(None);

    /// For a kernel whose operands are these numbers: by tiles for bfloat16, where the processor has instructions for them.
    pub(crate) fn of<T: Element>() -> Self {
        let is_float32 = T::as_float32(&[]).is_some();
        Self(if is_float32 { None } else { Instructions::fastest() })
    }

    /// By each of the instructions that can be tested on this machine.
    #[cfg(test)]
    pub(crate) fn testable() -> Vec<Self> {
        Instructions::testable().into_iter().map(|instructions| Self(Some(instructions))).collect()
    }

    /// What a factor is multiplied by before a product, and what its sums are multiplied by, so that they are `scale` times the
    /// product: bfloat16 numbers must stay as they are, since others would be rounded.
    pub(crate) fn before_and_after(self, scale: f32) -> (f32, f32) {
        if self.0.is_some() { (1.0, scale) } else { (scale, 1.0) }
    }

    /// `out = alpha · a · b`, added to `out` with `accumulate`; by tiles, the numbers of both factors are rounded to bfloat16.
    ///
    /// # Panics
    /// If the sizes do not fit each other or the slices, or the inner dimension is zero.
    pub(crate) fn multiply(self, out: &mut [f32], accumulate: bool, alpha: f32, a: View<'_>, b: View<'_>) {
        let Some(instructions) = self.0 else { return multiply_here(out, accumulate, alpha, a, b) };
        assert_eq!(a.columns, b.rows, "the inner sizes of the factors");
        assert!(a.columns > 0 && a.is_sound() && b.is_sound(), "the size of a factor");
        let (rows, columns, depth_tiles) = (a.rows, b.columns, a.columns.div_ceil(DEPTH));
        let a = pack(&a.lanes::<Rounded>(), 0..rows.div_ceil(SIDE), Order::ByLane, false);
        let b = pack(&b.transpose().lanes::<Rounded>(), 0..columns.div_ceil(SIDE), Order::ByPair, false);
        let factors = [[&a, &b].map(|tiles| Packed { tiles, depth_tiles })];
        let target = Target::new(&mut out[..rows * columns], columns, 0..columns);
        product(instructions, &target, Scale { alpha, accumulate }, &factors, false);
    }
}
