use rstest::rstest;

use super::*;
use crate::testing::{in_threads, numbers};

#[rstest]
fn products_are_those_of_float64(
    #[values(0, 1, 2, 3, 17, 64)] m: usize,
    #[values(1, 5, 33)] n: usize,
    #[values(0, 1, 2, 3, 70)] k: usize,
    #[values(false, true)] a_transposed: bool,
    #[values(false, true)] b_transposed: bool,
) {
    let (a, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
    let a = Matrix { data: &a, rows: m, columns: k, transposed: a_transposed };
    let b = Matrix { data: &b, rows: k, columns: n, transposed: b_transposed };
    let at = |matrix: &Matrix<'_>, i: usize, j: usize| {
        f64::from(if matrix.transposed {
            matrix.data[j * matrix.rows + i]
        } else {
            matrix.data[i * matrix.columns + j]
        })
    };
    for accumulate in [false, true] {
        let mut out = start.clone();
        multiply(&mut out, accumulate, 0.5, a, b);
        for i in 0..m {
            for j in 0..n {
                let kept = if accumulate { f64::from(start[i * n + j]) } else { 0.0 };
                let expected = kept + 0.5 * (0..k).map(|l| at(&a, i, l) * at(&b, l, j)).sum::<f64>();
                assert!((f64::from(out[i * n + j]) - expected).abs() < 1e-5, "{i}, {j}: {expected}");
            }
        }
    }
}

#[rstest]
#[case(576, 192, false)]
#[case(576, 1536, true)]
#[case(1536, 576, false)]
#[case(576, 16, false)]
#[case(16, 576, false)]
#[case(16, 576, true)]
#[case(40, 3, false)]
#[case(40, 3, true)]
#[case(576, 16, true)]
#[case(300, 100, true)]
fn a_row_does_not_depend_on_the_others(#[case] k: usize, #[case] n: usize, #[case] b_transposed: bool) {
    let rows = 131;
    let (a, b, start) = (numbers(rows * k, 1), numbers(k * n, 2), numbers(rows * n, 3));
    let b = Matrix { data: &b, rows: k, columns: n, transposed: b_transposed };
    for accumulate in [false, true] {
        let part = |from: usize, to: usize| {
            let mut out = start[from * n..to * n].to_vec();
            multiply(&mut out, accumulate, 1.0, Matrix::new(&a[from * k..to * k], to - from, k), b);
            out
        };
        let all = part(0, rows);
        for (from, to) in [(0, 1), (7, 8), (0, 2), (5, 8), (3, 70), (64, 131), (130, 131)] {
            assert!(part(from, to) == all[from * n..to * n], "rows {from}..{to} of {k} by {n}");
        }
    }
}

#[test]
fn threads_change_nothing() {
    let (m, n, k) = (200, 300, 257);
    let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
    let product = || {
        let mut out = vec![0.0; m * n];
        multiply(&mut out, false, 1.0, Matrix::transpose_of(&a, m, k), Matrix::new(&b, k, n));
        out
    };
    let alone = in_threads(1, product);
    for threads in [2, 3, 8] {
        assert!(in_threads(threads, product) == alone, "{threads} threads");
    }
}
