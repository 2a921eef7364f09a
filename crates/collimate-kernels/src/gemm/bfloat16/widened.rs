//! Products of bfloat16 numbers without instructions for them: in float32.

use std::ops::Range;

use rayon::prelude::*;

use super::Bfloat16Matrix;
use crate::element::widen_into;
use crate::gemm::{Matrix, PackedWeight, multiply_packed};
use crate::simd::CHUNK;

/// A factor in float32, whole.
pub(super) struct Widened {
    data: Vec<f32>,
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl Widened {
    pub(super) fn new(factor: Bfloat16Matrix<'_>) -> Self {
        let transposed = factor.column_stride != 1;
        let stored = if transposed { factor.transpose() } else { factor };
        let mut data = vec![0.0; stored.rows * stored.columns];
        let width = stored.columns.max(1);
        data.par_chunks_mut(width).with_min_len(CHUNK.div_ceil(width)).enumerate().for_each(|(row, to)| {
            widen_into(&stored.data[row * stored.row_stride..][..to.len()], to);
        });
        Self { data, rows: factor.rows, columns: factor.columns, transposed }
    }

    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix { data: &self.data, rows: self.rows, columns: self.columns, transposed: self.transposed }
    }
}

/// A factor whose rows are widened a panel at a time.
struct Rows<'a>(Bfloat16Matrix<'a>);

impl PackedWeight for Rows<'_> {
    fn rows(&self) -> usize {
        self.0.rows
    }

    fn columns(&self) -> usize {
        self.0.columns
    }

    fn unpack(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        for (row, to) in rows.zip(out.chunks_exact_mut(columns.len().max(1))) {
            widen_into(&self.0.data[row * self.0.row_stride..][columns.clone()], to);
        }
    }
}

/// `out = alpha · a · b`, added to `out` with `accumulate`.
pub(super) fn multiply(out: &mut [f32], accumulate: bool, alpha: f32, a: Bfloat16Matrix<'_>, b: Bfloat16Matrix<'_>) {
    let transposed = b.column_stride != 1;
    let rows = Rows(if transposed { b.transpose() } else { b });
    multiply_packed(out, accumulate, alpha, Widened::new(a).matrix(), &rows, transposed);
}
