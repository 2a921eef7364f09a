//! Matrix products, by the crate `gemm`.

/// A matrix to be read, [rows, columns], stored by rows; `transposed` reads the stored [columns, rows] the other way.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// The stored numbers.
    pub data: &'a [f32],
    /// Rows as it is read.
    pub rows: usize,
    /// Columns as it is read.
    pub columns: usize,
    /// Whether the storage is that of the transpose.
    pub transposed: bool,
}

/// `out = keep·out + alpha · a · b` with keep 1 or 0; `out` is [a.rows, b.columns] by rows. On all of rayon's threads.
pub fn multiply(out: &mut [f32], accumulate: bool, alpha: f32, a: Matrix<'_>, b: Matrix<'_>) {
    let _ = (out, accumulate, alpha, a, b);
    unimplemented!()
}
