//! Weights that are unpacked whole.

use rayon::prelude::*;

use super::PackedWeight;
use crate::element::Element;
use crate::simd::dispatch;

/// Rows of the result that are unpacked at once: 64 bytes of bfloat16, a line of the cache, where a column is read as a row.
const ROWS: usize = 32;

/// A weight's numbers, each rounded once, row by row: [rows, columns], or [columns, rows] with `transposed`.
///
/// Beside the result, a panel of 32 of its rows in float32 is in memory, for each thread.
pub fn unpack_weight<T: Element>(weight: &dyn PackedWeight, transposed: bool) -> Vec<T> {
    let (rows, columns) = (weight.rows(), weight.columns());
    let width = if transposed { rows } else { columns };
    let mut out = vec![T::default(); rows * columns];
    let fill = |scratch: &mut Vec<f32>, (index, out): (usize, &mut [T])| {
        let panel = index * ROWS..index * ROWS + out.len() / width;
        scratch.resize(out.len(), 0.0);
        match transposed {
            true => {
                weight.unpack(0..rows, panel, scratch);
                transpose(scratch, out, width);
            }
            false => {
                weight.unpack(panel, 0..columns, scratch);
                dispatch(
                    #[inline(always)]
                    || out.iter_mut().zip(scratch).for_each(|(to, &mut x)| *to = T::narrow(x)),
                );
            }
        }
    };
    out.par_chunks_mut((ROWS * width).max(1)).enumerate().for_each_init(Vec::new, fill);
    out
}

/// Columns of `from` to rows of `width` numbers.
fn transpose<T: Element>(from: &[f32], out: &mut [T], width: usize) {
    let count = out.len() / width;
    for (column, from) in from.chunks_exact(count).enumerate() {
        out.iter_mut().skip(column).step_by(width).zip(from).for_each(|(to, &x)| *to = T::narrow(x));
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use half::bf16;
    use rstest::rstest;

    use super::*;
    use crate::testing::{in_threads, numbers};

    struct Plain {
        data: Vec<f32>,
        rows: usize,
    }

    impl PackedWeight for Plain {
        fn rows(&self) -> usize {
            self.rows
        }

        fn columns(&self) -> usize {
            self.data.len() / self.rows
        }

        fn unpack(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
            for (row, to) in rows.zip(out.chunks_exact_mut(columns.len())) {
                to.copy_from_slice(&self.data[row * self.columns()..][columns.clone()]);
            }
        }
    }

    #[rstest]
    fn every_number_is_at_its_place_and_rounded_once(
        #[values(1, 31, 32, 100)] rows: usize,
        #[values(1, 33, 64)] columns: usize,
        #[values(1, 3)] threads: usize,
    ) {
        let weight = Plain { data: numbers(rows * columns, 1), rows };
        let (plain, transposed) =
            in_threads(threads, || (unpack_weight::<f32>(&weight, false), unpack_weight::<bf16>(&weight, true)));
        assert_eq!(plain, weight.data);
        for (index, x) in transposed.iter().enumerate() {
            let expected = weight.data[index % rows * columns + index / rows];
            assert_eq!(*x, bf16::from_f32(expected), "number {index}");
        }
    }
}
