//! Products with a weight that is held packed: a panel at a time is unpacked into the cache and multiplied there.
#![allow(unsafe_code)] // threads write disjoint columns of one matrix, which slices cannot express

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;

use super::bfloat16::Split;
use super::{FEW, Matrix, SMALL, View, product_at};

/// A matrix [rows, columns] in a packed form, such as four bits a number.
pub trait PackedWeight: Sync {
    /// Its number of rows.
    fn rows(&self) -> usize;

    /// Its number of columns.
    fn columns(&self) -> usize;

    /// Unpacks a part into `out`, row by row.
    fn unpack(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]);
}

/// The least size of a panel, in rows or columns of the weight: `gemm` sums larger products in the same order.
const PANEL: usize = 128;

/// A matrix of which threads write different columns.
#[derive(Clone, Copy)]
struct Columns {
    data: *mut f32,
    width: usize,
}

// SAFETY: tasks write disjoint columns only.
unsafe impl Send for Columns {}
// SAFETY: as above.
unsafe impl Sync for Columns {}

impl Columns {
    /// Where a column begins.
    fn at(self, column: usize) -> *mut f32 {
        self.data.wrapping_add(column)
    }
}

/// `out = alpha · a · weight`, or `alpha · a · weightᵀ` with `transposed`, added to `out` with `accumulate`.
///
/// The result has the bits of [`multiply`](super::multiply) with the unpacked weight. Unpacking takes a panel of memory a
/// thread: up to twice 128 rows (with `transposed`) or columns.
///
/// # Panics
/// If the sizes do not fit each other or the slices.
pub fn multiply_packed(
    out: &mut [f32],
    accumulate: bool,
    alpha: f32,
    a: Matrix<'_>,
    weight: &dyn PackedWeight,
    transposed: bool,
) {
    let (rows, columns) = (weight.rows(), weight.columns());
    let (inner, width) = if transposed { (columns, rows) } else { (rows, columns) };
    assert_eq!(a.columns, inner, "the inner sizes of the factors");
    assert_eq!(out.len(), a.rows * width, "the size of the product");
    let a_view = View::from(a);
    assert!(a_view.is_sound(), "the size of a factor");
    if a.rows == 0 || width == 0 {
        return;
    }
    if a.rows == 1 {
        return one_row(out, accumulate, alpha, a, weight, transposed);
    }
    if let Some(split) = Split::in_force() {
        return by_split_panels(split, out, accumulate, alpha, a_view, weight, transposed);
    }
    let to = Columns { data: out.as_mut_ptr(), width };
    let multiply = |scratch: &mut Vec<f32>, panel: Range<usize>| {
        let unpacked = unpacked(weight, panel.clone(), transposed, scratch);
        // SAFETY: both factors are sound and their inner sizes are `inner`. `out` is borrowed exclusively and has `a.rows` rows
        // of `width` elements, and no other task has this panel's columns.
        unsafe { product_at(to.at(panel.start), to.width, accumulate, alpha, a_view, unpacked, Parallelism::None) }
    };
    match a.rows * inner * width > SMALL {
        true => panels(width).into_par_iter().with_max_len(1).for_each_init(Vec::new, multiply),
        false => panels(width).into_iter().for_each(|panel| multiply(&mut Vec::new(), panel)),
    }
}

/// The columns of a panel of the weight or, with `transposed`, of its transpose, in `scratch`.
pub(super) fn unpacked<'a>(
    weight: &dyn PackedWeight,
    panel: Range<usize>,
    transposed: bool,
    scratch: &'a mut Vec<f32>,
) -> View<'a> {
    let (inner, count) = (if transposed { weight.columns() } else { weight.rows() }, panel.len());
    scratch.resize(inner * count, 0.0);
    let view = match transposed {
        true => {
            weight.unpack(panel, 0..inner, scratch);
            View::new(scratch, count, inner, inner).transpose()
        }
        false => {
            weight.unpack(0..inner, panel, scratch);
            View::new(scratch, inner, count, count)
        }
    };
    assert!(view.is_sound(), "the size of a panel");
    view
}

/// A panel after the other by products of bfloat16 numbers, each on all threads.
fn by_split_panels(
    split: Split,
    out: &mut [f32],
    accumulate: bool,
    alpha: f32,
    a: View<'_>,
    weight: &dyn PackedWeight,
    transposed: bool,
) {
    let width = if transposed { weight.rows() } else { weight.columns() };
    let (mut scratch, mut part) = (Vec::new(), Vec::new());
    for panel in panels(width) {
        part.clear();
        out.chunks_exact(width).for_each(|row| part.extend_from_slice(&row[panel.clone()]));
        split.multiply(&mut part, accumulate, alpha, a, unpacked(weight, panel.clone(), transposed, &mut scratch));
        for (row, part) in out.chunks_exact_mut(width).zip(part.chunks_exact(panel.len())) {
            row[panel.clone()].copy_from_slice(part);
        }
    }
}

/// As for [`multiply`](super::multiply), a single row is padded with a row of zeros.
fn one_row(out: &mut [f32], accumulate: bool, alpha: f32, a: Matrix<'_>, weight: &dyn PackedWeight, transposed: bool) {
    let (mut data, mut rows) = (vec![0.0; 2 * a.columns], vec![0.0; 2 * out.len()]);
    data[..a.columns].copy_from_slice(&a.data[..a.columns]);
    rows[..out.len()].copy_from_slice(out);
    multiply_packed(&mut rows, accumulate, alpha, Matrix::new(&data, 2, a.columns), weight, transposed);
    out.copy_from_slice(&rows[..out.len()]);
}

/// Divides a width into ranges of 128 or more that begin at multiples of 64, so that they hold whole blocks of most formats.
pub(super) fn panels(width: usize) -> Vec<Range<usize>> {
    let count = (width / PANEL).max(1);
    let bound = |index: usize| match index == count {
        true => width,
        false => index * width / count / FEW * FEW,
    };
    (0..count).map(|index| bound(index)..bound(index + 1)).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::gemm::MatmulPrecision;
    use crate::multiply;
    use crate::testing::{in_threads, numbers};

    /// A weight that is not packed at all.
    struct Plain {
        data: Vec<f32>,
        rows: usize,
        columns: usize,
    }

    impl PackedWeight for Plain {
        fn rows(&self) -> usize {
            self.rows
        }

        fn columns(&self) -> usize {
            self.columns
        }

        fn unpack(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
            for (row, to) in rows.zip(out.chunks_exact_mut(columns.len())) {
                to.copy_from_slice(&self.data[row * self.columns..][columns.clone()]);
            }
        }
    }

    /// The weight as it is held unpacked: transposed, [columns, rows].
    fn held(weight: &Plain) -> Vec<f32> {
        let at = |index: usize| weight.data[index % weight.rows * weight.columns + index / weight.rows];
        (0..weight.data.len()).map(at).collect()
    }

    #[rstest]
    #[case(576, 192)]
    #[case(1536, 576)]
    #[case(576, 1536)]
    #[case(40, 3)]
    #[case(3, 1000)]
    #[case(576, 16)]
    #[case(16, 576)]
    #[case(700, 65)]
    #[case(700, 191)]
    #[case(700, 257)]
    #[case(4096, 130)]
    #[case(700, 1)]
    #[case(1, 700)]
    fn products_have_the_bits_of_the_unpacked_weight(
        #[case] inner: usize,
        #[case] width: usize,
        #[values(1, 2, 3, 5, 64, 65, 300)] rows: usize,
        #[values(false, true)] transposed: bool,
        #[values(false, true)] accumulate: bool,
    ) {
        let (a, start) = (numbers(rows * inner, 1), numbers(rows * width, 2));
        let [weight_rows, weight_columns] = if transposed { [width, inner] } else { [inner, width] };
        let weight = Plain { data: numbers(inner * width, 3), rows: weight_rows, columns: weight_columns };
        let stored = held(&weight);
        // A model holds [in, out]: the transpose of what is packed.
        let b = match transposed {
            true => Matrix::new(&stored, inner, width),
            false => Matrix::transpose_of(&stored, inner, width),
        };
        let mut expected = start.clone();
        multiply(&mut expected, accumulate, 0.5, Matrix::new(&a, rows, inner), b);
        for threads in [1, 2, 5] {
            let mut found = start.clone();
            in_threads(threads, || {
                multiply_packed(&mut found, accumulate, 0.5, Matrix::new(&a, rows, inner), &weight, transposed);
            });
            assert!(found == expected, "{threads} threads");
        }
    }

    #[rstest]
    fn split_panels_have_the_bits_of_the_unpacked_weight(
        #[values((96, 300), (40, 3), (576, 130))] (inner, width): (usize, usize),
        #[values(1, 5, 40)] rows: usize,
        #[values(false, true)] transposed: bool,
        #[values(false, true)] accumulate: bool,
        #[values(MatmulPrecision::High, MatmulPrecision::Medium)] precision: MatmulPrecision,
    ) {
        let (a, start) = (numbers(rows * inner, 1), numbers(rows * width, 2));
        let [weight_rows, weight_columns] = if transposed { [width, inner] } else { [inner, width] };
        let weight = Plain { data: numbers(inner * width, 3), rows: weight_rows, columns: weight_columns };
        let all = View::new(&weight.data, weight_rows, weight_columns, weight_columns);
        let a = View::new(&a, rows, inner, inner);
        for split in Split::testable(precision) {
            let (mut expected, mut found) = (start.clone(), start.clone());
            split.multiply(&mut expected, accumulate, 0.5, a, if transposed { all.transpose() } else { all });
            by_split_panels(split, &mut found, accumulate, 0.5, a, &weight, transposed);
            assert!(found == expected, "{split:?}");
        }
    }

    #[test]
    fn panels_cover_every_column_once_and_are_wide() {
        for width in 1..2000 {
            let panels = panels(width);
            assert_eq!((panels[0].start, panels[panels.len() - 1].end), (0, width));
            assert!(panels.windows(2).all(|pair| pair[0].end == pair[1].start));
            assert!(panels.iter().all(|panel| panel.len() > FEW.min(width - 1)), "{width}: {panels:?}");
            assert!(panels.iter().all(|panel| panel.len() < 3 * PANEL), "{width}: {panels:?}");
        }
    }
}
