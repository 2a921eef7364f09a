//! Products of the blocks that kernels compute themselves, on the calling thread.

use std::ops::Range;

use super::driver::{Factors, Scale, Target, product};
use super::instructions::Instructions;
use super::left::Left;
use super::pack::{Lanes, Order, Rounded, pack};
use super::tile::{DEPTH, SIDE, Tile};
use super::{Bfloat16Matrix, View};
use crate::element::{Element, widened};
use crate::gemm::{Matrix, multiply_here};

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
        assert!(a.is_sound() && b.is_sound(), "the size of a factor");
        let [a, b] = [
            Tiles::of(&a.lanes::<Rounded>(), Order::ByLane),
            Tiles::of(&b.transpose().lanes::<Rounded>(), Order::ByPair),
        ];
        a.multiply(instructions, out, Scale { alpha, accumulate }, 0..a.lanes, &b);
    }

    /// A matrix as the left factor of several products; numbers may be widened into `scratch`.
    pub(crate) fn left<'a, T: Element>(self, matrix: Matrix<'a, T>, scratch: &'a mut Vec<f32>) -> Factor<'a> {
        self.factor(matrix, Order::ByLane, scratch)
    }

    /// A matrix as the right factor of several products; numbers may be widened into `scratch`.
    pub(crate) fn right<'a, T: Element>(self, matrix: Matrix<'a, T>, scratch: &'a mut Vec<f32>) -> Factor<'a> {
        self.factor(matrix, Order::ByPair, scratch)
    }

    fn factor<'a, T: Element>(self, matrix: Matrix<'a, T>, order: Order, scratch: &'a mut Vec<f32>) -> Factor<'a> {
        if self.0.is_none() {
            return Factor::Float32(matrix.with(widened(matrix.data, scratch)).into());
        }
        // Rows of a left factor, columns of a right one.
        let lanes = if order == Order::ByPair { matrix.transpose() } else { matrix };
        Factor::Tiles(match T::as_bfloat16(lanes.data) {
            Some(data) => Tiles::of(&Bfloat16Matrix::from(lanes.with(data)).lanes(), order),
            None => Tiles::of(&View::from(lanes.with(widened(lanes.data, scratch))).lanes::<Rounded>(), order),
        })
    }

    /// `out = a[rows] · b`, added to `out` with `accumulate`, of factors of these products. `rows` begin at a multiple of 32.
    ///
    /// # Panics
    /// If the sizes do not fit each other or the slice, or the inner dimension is zero.
    pub(crate) fn multiply_rows(
        self,
        out: &mut [f32],
        accumulate: bool,
        a: &Factor<'_>,
        rows: Range<usize>,
        b: &Factor<'_>,
    ) {
        match (self.0, a, b) {
            (None, Factor::Float32(a), Factor::Float32(b)) => {
                multiply_here(out, accumulate, 1.0, a.some_rows(rows), *b)
            }
            (Some(instructions), Factor::Tiles(a), Factor::Tiles(b)) => {
                a.multiply(instructions, out, Scale { alpha: 1.0, accumulate }, rows, b);
            }
            _ => unreachable!("factors of other products"),
        }
    }
}

/// A factor that is made ready once for several products.
pub(crate) enum Factor<'a> {
    /// As it is.
    Float32(View<'a>),
    /// Rounded to bfloat16.
    Tiles(Tiles),
}

/// A factor in tiles: rows of a left one, columns of a right one.
pub(crate) struct Tiles {
    tiles: Vec<Tile>,
    lanes: usize,
    depth: usize,
}

impl Tiles {
    fn of(factor: &dyn Lanes<'_>, order: Order) -> Self {
        let (lanes, depth) = (factor.lanes(), factor.depth());
        assert!(depth > 0, "the inner size of a factor");
        Self { tiles: pack(factor, 0..lanes.div_ceil(SIDE), order, false), lanes, depth }
    }

    /// `out = self[rows] · b` with these instructions.
    fn multiply(&self, instructions: Instructions, out: &mut [f32], scale: Scale, rows: Range<usize>, b: &Self) {
        assert_eq!(self.depth, b.depth, "the inner sizes of the factors");
        assert!(rows.start.is_multiple_of(SIDE) && rows.end <= self.lanes, "the rows of a factor");
        let depth_tiles = self.depth.div_ceil(DEPTH);
        let a = &self.tiles[rows.start / SIDE * depth_tiles..rows.end.div_ceil(SIDE) * depth_tiles];
        let factors = [Factors { a: &Left::packed(a, depth_tiles), b: &b.tiles }];
        let target = Target::new(&mut out[..rows.len() * b.lanes], b.lanes, 0..b.lanes);
        product(instructions, &target, scale, &factors, false);
    }
}
