//! Products of bfloat16 numbers, summed in float32.
//!
//! Both factors are packed into tiles, in which each instruction set finds its pairs of numbers; frozen weights are packed once
//! ([`PackedBfloat16`]). Where the processor has no such instructions, factors are widened to float32.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod driver;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod emulator;
mod instructions;
mod left;
mod pack;
mod panels;
mod plain;
mod product;
mod rounded;
mod split;
#[cfg(test)]
mod tests;
mod tile;
mod transpose;
mod weight;
mod widened;

use half::bf16;

pub(crate) use self::blocks::{BlockProducts, Factor};
use self::driver::Scale;
use self::instructions::Instructions;
pub use self::instructions::{all_bfloat16_products, bare_bfloat16_products, force_bfloat16_products};
use self::pack::{Convert, Kept, Strided};
pub use self::rounded::{multiply_bf16, multiply_packed_bf16};
pub(super) use self::split::Split;
pub use self::split::multiply_split;
pub use self::weight::{PackedBfloat16, multiply_prepared, packed_bfloat16_bytes};
use super::View;

/// A factor of bfloat16 numbers, [rows, columns].
#[derive(Debug, Clone, Copy)]
pub struct Bfloat16Matrix<'a> {
    data: &'a [bf16],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Bfloat16Matrix<'a> {
    /// A matrix stored row by row.
    pub fn new(data: &'a [bf16], rows: usize, columns: usize) -> Self {
        Self::with_stride(data, rows, columns, columns)
    }

    /// The transpose of a matrix stored row by row as [columns, rows].
    pub fn transpose_of(data: &'a [bf16], rows: usize, columns: usize) -> Self {
        Self::new(data, columns, rows).transpose()
    }

    /// Rows that start `stride` elements apart.
    ///
    /// # Panics
    /// If `data` is too short.
    pub fn with_stride(data: &'a [bf16], rows: usize, columns: usize, stride: usize) -> Self {
        let is_empty = rows == 0 || columns == 0;
        assert!(is_empty || (rows - 1) * stride + columns <= data.len(), "the size of a factor");
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The transpose, [columns, rows].
    pub fn transpose(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// The rows as lanes.
    fn lanes(&self) -> Strided<'a, Kept> {
        Strided {
            data: self.data,
            lanes: self.rows,
            depth: self.columns,
            lane_stride: self.row_stride,
            depth_stride: self.column_stride,
        }
    }
}

impl<'a> View<'a> {
    /// The rows as lanes of bfloat16 numbers.
    fn lanes<C: Convert<Number = f32>>(&self) -> Strided<'a, C> {
        Strided {
            data: self.data,
            lanes: self.rows,
            depth: self.columns,
            lane_stride: self.row_stride,
            depth_stride: self.column_stride,
        }
    }
}

/// `out = alpha · a · b`, added to `out` with `accumulate`, on all of rayon's threads; `out` is [a.rows, b.columns], in float32.
///
/// A row of `out` has the same bits whatever the other rows of `a` and whatever the number of threads. Processors with other
/// instructions differ in the last bits: products are exact in float32, but AMX sums the even and the odd positions of 32 apart,
/// and AMX and AVX-512 take subnormal numbers for zero. Without either, factors are widened to float32 and multiplied as by
/// [`multiply`](crate::multiply).
///
/// # Panics
/// If the sizes do not fit each other or the slices.
pub fn multiply_bfloat16(out: &mut [f32], accumulate: bool, alpha: f32, a: Bfloat16Matrix<'_>, b: Bfloat16Matrix<'_>) {
    rounded::product(Scale { alpha, accumulate }, out, a, b);
}

/// Which instructions this processor has for products of bfloat16 numbers: `"amx"` or `"avx512_bf16"`. Without any, products of
/// bfloat16 numbers take as long as those of float32.
pub fn bfloat16_products() -> Option<&'static str> {
    Instructions::fastest().map(Instructions::name)
}
