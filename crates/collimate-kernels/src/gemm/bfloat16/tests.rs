//! Every kernel that can run here against float64: AMX on any x86-64 Linux, by the emulator where the processor lacks it.

mod split_products;

use half::bf16;
use rstest::rstest;

use super::product::Product;
use super::*;
use crate::gemm::{MatmulPrecision, Matrix, PackedWeight};
use crate::testing::{in_threads, numbers};

/// The instructions that can be tested on this machine; `None` is the portable form.
fn testable() -> Vec<Option<Instructions>> {
    Instructions::testable().into_iter().map(Some).chain([None]).collect()
}

fn of(instructions: Option<Instructions>, accumulate: bool, alpha: f32) -> Option<Product> {
    instructions.map(|instructions| Product { instructions, scale: Scale { alpha, accumulate } })
}

/// [`multiply_bfloat16`] with given instructions.
fn multiply_with(
    instructions: Option<Instructions>,
    out: &mut [f32],
    [accumulate, alpha]: [f32; 2],
    a: Bfloat16Matrix<'_>,
    b: Bfloat16Matrix<'_>,
) {
    let accumulate = accumulate != 0.0;
    match of(instructions, accumulate, alpha) {
        Some(product) => product.of_lanes(out, &[&a.lanes()], &[&b.transpose().lanes()], &[[0, 0]]),
        None => widened::multiply(out, accumulate, alpha, a, b),
    }
}

fn bfloat16s(len: usize, seed: u64) -> Vec<bf16> {
    numbers(len, seed).into_iter().map(bf16::from_f32).collect()
}

fn at(matrix: &Bfloat16Matrix<'_>, row: usize, column: usize) -> f64 {
    matrix.data[row * matrix.row_stride + column * matrix.column_stride].to_f64()
}

/// Asserts that sums of `k` products have at most the error of as many roundings to float32.
fn assert_product(
    out: &[f32],
    start: &[f32],
    [accumulate, alpha]: [f32; 2],
    a: Bfloat16Matrix<'_>,
    b: Bfloat16Matrix<'_>,
) {
    for i in 0..a.rows {
        for j in 0..b.columns {
            let products = || (0..a.columns).map(|l| at(&a, i, l) * at(&b, l, j));
            let kept = f64::from(accumulate) * f64::from(start[i * b.columns + j]);
            let expected = kept + f64::from(alpha) * products().sum::<f64>();
            let size = kept.abs() + f64::from(alpha) * products().map(f64::abs).sum::<f64>();
            let bound = (a.columns + 2) as f64 * size * 2f64.powi(-24);
            let found = f64::from(out[i * b.columns + j]);
            assert!((found - expected).abs() <= bound, "{i}, {j}: {found} against {expected}, at most {bound} apart");
        }
    }
}

#[rstest]
fn products_are_those_of_float64(
    #[values([0, 5], [1, 0], [1, 1], [2, 32], [16, 5], [17, 49], [70, 33])] size: [usize; 2],
    #[values(0, 1, 31, 32, 70, 700)] k: usize,
    #[values(false, true)] a_transposed: bool,
    #[values(false, true)] b_transposed: bool,
) {
    let [m, n] = size;
    let (a, b, start) = (bfloat16s(m * k, 1), bfloat16s(k * n, 2), numbers(m * n, 3));
    let factor = |data, rows, columns, transposed| match transposed {
        true => Bfloat16Matrix::transpose_of(data, rows, columns),
        false => Bfloat16Matrix::new(data, rows, columns),
    };
    let (a, b) = (factor(&a, m, k, a_transposed), factor(&b, k, n, b_transposed));
    for instructions in testable() {
        for scale in [[0.0, 1.0], [0.0, 0.5], [1.0, 0.5]] {
            let mut out = start.clone();
            multiply_with(instructions, &mut out, scale, a, b);
            assert_product(&out, &start, scale, a, b);
        }
    }
}

#[test]
fn rows_may_lie_apart() {
    let (m, n, k) = (37, 50, 71);
    let (a, b) = (bfloat16s(m * 100, 1), bfloat16s(n * 80, 2));
    let (a, b) = (Bfloat16Matrix::with_stride(&a, m, k, 100), Bfloat16Matrix::with_stride(&b, n, k, 80).transpose());
    for instructions in testable() {
        let mut out = vec![0.0; m * n];
        multiply_with(instructions, &mut out, [0.0, 1.0], a, b);
        assert_product(&out, &[0.0; 37 * 50], [0.0, 1.0], a, b);
    }
}

/// 21 tiles and more are summed in two parts.
#[rstest]
#[case(576, 70, false)]
#[case(700, 40, true)]
#[case(16, 65, false)]
#[case(1300, 3, true)]
fn a_row_does_not_depend_on_the_others(#[case] k: usize, #[case] n: usize, #[case] b_transposed: bool) {
    let rows = 67;
    let (a, b, start) = (bfloat16s(rows * k, 1), bfloat16s(k * n, 2), numbers(rows * n, 3));
    let b = if b_transposed { Bfloat16Matrix::transpose_of(&b, k, n) } else { Bfloat16Matrix::new(&b, k, n) };
    for instructions in testable() {
        let part = |from: usize, to: usize| {
            let mut out = start[from * n..to * n].to_vec();
            let a = Bfloat16Matrix::new(&a[from * k..to * k], to - from, k);
            multiply_with(instructions, &mut out, [1.0, 0.5], a, b);
            out
        };
        let all = part(0, rows);
        for (from, to) in [(0, 1), (7, 8), (5, 8), (3, 40), (33, 67), (66, 67)] {
            assert!(part(from, to) == all[from * n..to * n], "{instructions:?}: rows {from}..{to} of {k} by {n}");
        }
    }
}

/// Rows of pairs are read in place where the inner dimension is a multiple of 32, whatever their alignment.
#[rstest]
fn rows_in_place_give_the_bits_of_packed_ones(
    #[values(31, 32, 33, 70)] m: usize,
    #[values(32, 96, 704)] k: usize,
    #[values(0, 1, 7)] gap: usize,
) {
    let (n, stride) = (50, k + gap);
    let (a, b) = (bfloat16s(m * stride + 1, 1), bfloat16s(n * k, 2));
    let a = Bfloat16Matrix::with_stride(&a[gap % 2..], m, k, stride);
    // The same rows as columns, which are packed.
    let columns: Vec<bf16> = (0..k).flat_map(|l| (0..m).map(move |i| bf16::from_f64(at(&a, i, l)))).collect();
    let (columns, b) = (Bfloat16Matrix::transpose_of(&columns, m, k), Bfloat16Matrix::transpose_of(&b, k, n));
    for instructions in testable().into_iter().flatten() {
        let product = |a| {
            let mut out = vec![0.0; m * n];
            multiply_with(Some(instructions), &mut out, [0.0, 1.0], a, b);
            out
        };
        assert!(product(a) == product(columns), "{instructions:?}");
    }
}

#[test]
fn threads_change_nothing() {
    let (m, n, k) = (100, 300, 91);
    let (a, b) = (bfloat16s(m * k, 1), bfloat16s(k * n, 2));
    let (a, b) = (Bfloat16Matrix::transpose_of(&a, m, k), Bfloat16Matrix::new(&b, k, n));
    for instructions in testable() {
        let product = || {
            let mut out = vec![0.0; m * n];
            multiply_with(instructions, &mut out, [0.0, 1.0], a, b);
            out
        };
        let alone = in_threads(1, product);
        for threads in [2, 3, 8] {
            assert!(in_threads(threads, product) == alone, "{instructions:?}: {threads} threads");
        }
    }
}

#[rstest]
#[case(576, 192)]
#[case(33, 70)]
#[case(70, 33)]
#[case(1, 40)]
#[case(40, 1)]
#[case(700, 17)]
fn products_with_a_packed_weight_have_the_bits_of_the_unpacked(
    #[case] rows: usize,
    #[case] columns: usize,
    #[values(1, 5, 35)] m: usize,
    #[values(false, true)] transposed: bool,
) {
    let held = bfloat16s(rows * columns, 3);
    let weight = PackedBfloat16::new(Bfloat16Matrix::new(&held, rows, columns));
    let (inner, width) = if transposed { (columns, rows) } else { (rows, columns) };
    let b = match transposed {
        true => Bfloat16Matrix::transpose_of(&held, inner, width),
        false => Bfloat16Matrix::new(&held, inner, width),
    };
    let (a, start) = (bfloat16s(m * inner, 1), numbers(m * width, 2));
    let a = Bfloat16Matrix::new(&a, m, inner);
    for instructions in testable() {
        for scale in [[0.0, 1.0], [1.0, 0.5]] {
            let mut expected = start.clone();
            multiply_with(instructions, &mut expected, scale, a, b);
            for threads in [1, 3] {
                let mut found = start.clone();
                in_threads(threads, || match of(instructions, scale[0] != 0.0, scale[1]) {
                    Some(product) => weight::prepared(product, &mut found, a, &weight, transposed),
                    None => weight::unpacking(
                        Scale { alpha: scale[1], accumulate: scale[0] != 0.0 },
                        &mut found,
                        a,
                        &weight,
                        transposed,
                    ),
                });
                assert!(found == expected, "{instructions:?}, {threads} threads");
            }
        }
    }
}

#[test]
fn a_packed_weight_takes_half_of_float32_and_gives_back_its_numbers() {
    let (rows, columns) = (64, 96);
    let numbers = numbers(rows * columns, 1);
    let weight = PackedBfloat16::rounded(Matrix::new(&numbers, rows, columns));
    assert_eq!(2 * weight.bytes(), size_of_val(&*numbers));
    let at = |row: usize, column: usize| bf16::from_f32(numbers[row * columns + column]).to_f32();
    for (rows, columns) in [(0..64, 0..96), (5..40, 31..33), (16..17, 1..96), (63..64, 95..96)] {
        let mut found = vec![0.0; rows.len() * columns.len()];
        weight.unpack(rows.clone(), columns.clone(), &mut found);
        let expected: Vec<f32> =
            rows.flat_map(|row| columns.clone().map(move |column| [row, column])).map(|[r, c]| at(r, c)).collect();
        assert_eq!(found, expected);
    }
    let held: Vec<f32> = (0..rows * columns).map(|i| numbers[i % rows * columns + i / rows]).collect();
    assert!(PackedBfloat16::rounded(Matrix::transpose_of(&held, rows, columns)).tiles == weight.tiles);
}

/// Numbers that are not finite stay in their row and column. Subnormal ones are zero to instructions, and numbers to float32.
#[test]
fn special_numbers_are_those_of_ieee_but_for_subnormal_ones() {
    let (m, n, k) = (3, 4, 40);
    let tiny = bf16::from_bits(1);
    let (mut a, mut b) = (vec![bf16::ONE; m * k], vec![bf16::ONE; k * n]);
    a[0] = bf16::INFINITY;
    a[k + 1] = tiny;
    b[0] = bf16::ZERO;
    b[n] = bf16::MAX;
    b[2] = bf16::NAN;
    b[3] = bf16::NEG_INFINITY;
    (2..k).for_each(|l| a[k + l] = bf16::ZERO);
    a[k] = bf16::ZERO;
    let (a, b) = (Bfloat16Matrix::new(&a, m, k), Bfloat16Matrix::new(&b, k, n));
    for instructions in testable() {
        let mut out = vec![0.0; m * n];
        multiply_with(instructions, &mut out, [0.0, 1.0], a, b);
        // Infinity times zero, plus finite numbers; infinity; NaN; minus infinity.
        assert!(
            out[0].is_nan() && out[1] == f32::INFINITY && out[2].is_nan() && out[3] == f32::NEG_INFINITY,
            "{out:?}"
        );
        // A subnormal number times the largest; times one; zero times NaN and times infinity.
        let (large, one) = match instructions.map(Instructions::name) {
            Some("amx" | "avx512_bf16") => (0.0, 0.0),
            _ => (tiny.to_f32() * bf16::MAX.to_f32(), tiny.to_f32()),
        };
        assert_eq!(out[4..6], [large, one], "{instructions:?}");
        assert!(out[6].is_nan() && out[7].is_nan(), "{out:?}");
        assert_eq!(out[9], 40.0);
        assert!(out[8] == bf16::MAX.to_f32() && out[10].is_nan() && out[11] == f32::NEG_INFINITY, "{out:?}");
    }
}

#[test]
fn the_public_products_are_those_of_the_fastest_instructions() {
    let (m, n, k) = (40, 50, 60);
    let (a, b) = (bfloat16s(m * k, 1), bfloat16s(k * n, 2));
    let (a, matrix) = (Bfloat16Matrix::new(&a, m, k), Bfloat16Matrix::new(&b, k, n));
    let [mut found, mut prepared, mut expected] = [(); 3].map(|()| vec![0.0; m * n]);
    multiply_bfloat16(&mut found, false, 1.0, a, matrix);
    multiply_prepared(&mut prepared, false, 1.0, a, &PackedBfloat16::new(matrix), false);
    multiply_with(Instructions::fastest(), &mut expected, [0.0, 1.0], a, matrix);
    assert!(found == expected && prepared == expected);
    assert_eq!(bfloat16_products(), all_bfloat16_products().first().copied());
    assert!(!force_bfloat16_products("abacus") && bare_bfloat16_products("abacus", 1).is_none());
}
