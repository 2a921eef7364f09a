//! Matrix products with the `gemm` crate.
#![allow(unsafe_code)] // its entry point takes pointers and strides

mod bfloat16;
mod packed;
mod precision;
#[cfg(test)]
mod tests;
mod unpacked;

use std::ops::Range;

use gemm::Parallelism;

use self::bfloat16::Split;
pub use self::bfloat16::{
    Bfloat16Matrix, PackedBfloat16, all_bfloat16_products, bare_bfloat16_products, bfloat16_products,
    force_bfloat16_products, multiply_bf16, multiply_bfloat16, multiply_packed_bf16, multiply_prepared, multiply_split,
    packed_bfloat16_bytes,
};
pub(crate) use self::bfloat16::{BlockProducts, Factor};
pub use self::packed::{PackedWeight, multiply_packed};
pub use self::precision::{MatmulPrecision, set_float32_matmul_precision};
pub use self::unpacked::unpack_weight;

/// A factor of a product, [rows, columns], or the transpose of a stored [columns, rows].
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T = f32> {
    /// The elements, row by row.
    pub data: &'a [T],
    /// Rows of the factor.
    pub rows: usize,
    /// Columns of the factor.
    pub columns: usize,
    /// Whether `data` holds the transpose.
    pub transposed: bool,
}

impl<'a, T> Matrix<'a, T> {
    /// A matrix stored row by row.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, transposed: false }
    }

    /// The transpose of a matrix stored row by row as [columns, rows].
    pub fn transpose_of(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, transposed: true }
    }

    /// The transpose.
    fn transpose(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// Other numbers in the same places.
    fn with<'b, U>(&self, data: &'b [U]) -> Matrix<'b, U> {
        Matrix { data, rows: self.rows, columns: self.columns, transposed: self.transposed }
    }
}

/// A factor with arbitrary strides.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// Rows that start `stride` elements apart.
    pub fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// Rows and columns exchanged.
    pub fn transpose(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Some of its rows.
    fn some_rows(self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.rows, "the rows of a factor");
        Self { data: &self.data[rows.start * self.row_stride..], rows: rows.len(), ..self }
    }

    /// The elements, column by column.
    fn by_columns(&self) -> Vec<f32> {
        let at = |column: usize, row: usize| self.data[row * self.row_stride + column * self.column_stride];
        (0..self.columns).flat_map(|column| (0..self.rows).map(move |row| at(column, row))).collect()
    }

    /// Whether every index is in bounds.
    fn is_sound(&self) -> bool {
        let empty = self.rows == 0 || self.columns == 0;
        empty || (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride < self.data.len()
    }
}

impl<'a> From<Matrix<'a>> for View<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        match matrix.transposed {
            false => View::new(matrix.data, matrix.rows, matrix.columns, matrix.columns),
            true => View::new(matrix.data, matrix.columns, matrix.rows, matrix.rows).transpose(),
        }
    }
}

/// Number of multiplications up to which a product is not worth another thread.
const SMALL: usize = 1 << 16;

/// Elements of an output that `gemm` may sum in another order.
const SMALL_OUTPUT: usize = 256;

/// Columns up to which `gemm` may split a sum otherwise.
const FEW: usize = 64;

/// Inner size up to which `gemm` never splits a sum.
const PART: usize = 512;

/// `out = alpha · a · b`, added to `out` with `accumulate`, on all of rayon's threads; `out` is [a.rows, b.columns].
///
/// A row of `out` has the same bits whatever the other rows of `a` and whatever the number of threads.
///
/// # Panics
/// If the sizes do not fit each other or the slices.
pub fn multiply(out: &mut [f32], accumulate: bool, alpha: f32, a: Matrix<'_>, b: Matrix<'_>) {
    assert_eq!(out.len(), a.rows * b.columns, "the size of the product");
    let parallel = a.rows * a.columns * b.columns > SMALL;
    product(out, accumulate, alpha, a.into(), b.into(), parallel);
}

/// [`multiply`] on the calling thread only, for use inside a parallel kernel.
pub fn multiply_here<'a>(
    out: &mut [f32],
    accumulate: bool,
    alpha: f32,
    a: impl Into<View<'a>>,
    b: impl Into<View<'a>>,
) {
    product(out, accumulate, alpha, a.into(), b.into(), false);
}

fn product(out: &mut [f32], accumulate: bool, alpha: f32, a: View<'_>, b: View<'_>, parallel: bool) {
    assert_eq!(a.columns, b.rows, "the inner sizes of the factors");
    assert!(a.is_sound() && b.is_sound(), "the size of a factor");
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    if let Some(split) = Split::in_force() {
        return split.multiply(&mut out[..a.rows * b.columns], accumulate, alpha, a, b);
    }
    if a.rows == 1 {
        return one_row(out, accumulate, alpha, a, b, parallel);
    }
    assert!(out.len() >= a.rows * b.columns, "the size of the product");
    let parallelism = if parallel { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: the asserts above bound every index that sizes and strides reach, and `out` is borrowed exclusively.
    unsafe { product_at(out.as_mut_ptr(), b.columns, accumulate, alpha, a, b, parallelism) }
}

/// [`product`] into rows of a larger matrix, which start `row_stride` elements apart.
///
/// # Safety
/// Both factors are sound and their inner sizes agree; `out` points to `a.rows` such rows of at least `b.columns` elements,
/// which nothing else accesses meanwhile.
unsafe fn product_at(
    out: *mut f32,
    row_stride: usize,
    accumulate: bool,
    alpha: f32,
    a: View<'_>,
    b: View<'_>,
    parallelism: Parallelism,
) {
    // `gemm` sums small outputs in another order if both factors are contiguous along the inner dimension, so one is not.
    let is_small = a.rows * b.columns <= SMALL_OUTPUT && b.columns > 1;
    let by_columns = if is_small && a.column_stride == 1 && b.row_stride == 1 { a.by_columns() } else { Vec::new() };
    let a = match by_columns.is_empty() {
        true => a,
        false => View { data: &by_columns, row_stride: 1, column_stride: a.rows, ..a },
    };
    // `gemm` splits the inner dimension differently for outputs of at most 64 by 64. Passing parts that it does not split
    // makes the sums of a row the same for any number of rows.
    let inner = a.columns;
    let part = if b.columns <= FEW && inner > PART { inner.div_ceil(inner.div_ceil(PART)) } else { inner.max(1) };
    for start in (0..inner.max(1)).step_by(part) {
        // SAFETY: by the caller's promise, sizes and strides reach only elements of the factors and of `out`.
        unsafe {
            gemm::gemm(
                a.rows,
                b.columns,
                part.min(inner - start),
                out,
                1,
                row_stride as isize,
                accumulate || start > 0,
                a.data.as_ptr().wrapping_add(start * a.column_stride),
                a.column_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr().wrapping_add(start * b.row_stride),
                b.column_stride as isize,
                b.row_stride as isize,
                1.0,
                alpha,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}

/// A single row padded with a row of zeros: `gemm` would sum a lone row in another order.
fn one_row(out: &mut [f32], accumulate: bool, alpha: f32, a: View<'_>, b: View<'_>, parallel: bool) {
    let columns = b.columns;
    let (mut data, mut rows) = (vec![0.0; 2 * a.columns], vec![0.0; 2 * columns]);
    data.iter_mut()
        .zip(a.data.iter().step_by(a.column_stride.max(1)))
        .take(a.columns)
        .for_each(|(to, &from)| *to = from);
    rows[..columns].copy_from_slice(&out[..columns]);
    product(&mut rows, accumulate, alpha, View::new(&data, 2, a.columns, a.columns), b, parallel);
    out[..columns].copy_from_slice(&rows[..columns]);
}
