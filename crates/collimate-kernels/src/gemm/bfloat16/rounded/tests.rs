use rstest::rstest;

use super::*;
use crate::testing::{in_threads, numbers};
use crate::{bfloat16_products, multiply, multiply_bfloat16, to_bfloat16};

fn wide(numbers: &[bf16]) -> Vec<f32> {
    numbers.iter().map(|x| x.to_f32()).collect()
}

/// Factors of a product, [m, k] and [k, n].
struct Case {
    sizes: [usize; 3],
    a: Vec<bf16>,
    b: Vec<bf16>,
    transposed: [bool; 2],
}

impl Case {
    fn new(sizes: [usize; 3], transposed: [bool; 2]) -> Self {
        let [m, k, n] = sizes;
        Self { sizes, a: to_bfloat16(&numbers(m * k, 1)), b: to_bfloat16(&numbers(k * n, 2)), transposed }
    }

    fn factors<'a, T>(&self, a: &'a [T], b: &'a [T]) -> [Matrix<'a, T>; 2] {
        let ([m, k, n], [a_transposed, b_transposed]) = (self.sizes, self.transposed);
        let a = Matrix { data: a, rows: m, columns: k, transposed: a_transposed };
        [a, Matrix { data: b, rows: k, columns: n, transposed: b_transposed }]
    }

    fn product<T: Element>(&self, start: &[T], accumulate: bool) -> Vec<T> {
        let (mut out, [a, b]) = (start.to_vec(), self.factors(&self.a, &self.b));
        multiply_bf16(&mut out, accumulate, 0.5, a, b);
        out
    }
}

#[rstest]
#[case([1, 300, 70])]
#[case([2, 70, 1])]
#[case([513, 64, 130])]
#[case([7, 1, 300])]
#[case([1030, 48, 16])]
#[case([0, 5, 4])]
#[case([3, 0, 4])]
fn a_product_is_that_in_float32_rounded_once(
    #[case] sizes: [usize; 3],
    #[values(false, true)] a_transposed: bool,
    #[values(false, true)] b_transposed: bool,
    #[values(false, true)] accumulate: bool,
) {
    let case = Case::new(sizes, [a_transposed, b_transposed]);
    let start = to_bfloat16(&numbers(sizes[0] * sizes[2], 3));
    let mut exact = wide(&start);
    let [a, b] = case.factors(&case.a, &case.b);
    multiply_bfloat16(&mut exact, accumulate, 0.5, a.into(), b.into());
    assert!(case.product(&start, accumulate) == to_bfloat16(&exact), "in bfloat16");
    assert!(case.product(&wide(&start), accumulate) == exact, "in float32");
    let mut in_float32 = wide(&start);
    let (wide_a, wide_b) = (wide(&case.a), wide(&case.b));
    let [a, b] = case.factors(&wide_a, &wide_b);
    multiply(&mut in_float32, accumulate, 0.5, a, b);
    // The same sums in another order.
    let bound = 1e-5 * sizes[1] as f32;
    assert!(exact.iter().zip(&in_float32).all(|(x, y)| (x - y).abs() <= bound), "against widened factors");
}

#[rstest]
#[case(576, 192, false)]
#[case(576, 16, true)]
#[case(16, 576, true)]
#[case(4500, 40, false)]
fn neither_other_rows_nor_threads_change_a_row(#[case] k: usize, #[case] n: usize, #[case] b_transposed: bool) {
    let rows = 700;
    let (a, b) = (to_bfloat16(&numbers(rows * k, 1)), to_bfloat16(&numbers(k * n, 2)));
    let b = Matrix { data: &b[..], rows: k, columns: n, transposed: b_transposed };
    let part = |from: usize, to: usize| {
        let mut out = vec![bf16::ONE; (to - from) * n];
        multiply_bf16(&mut out, true, 1.0, Matrix::new(&a[from * k..to * k], to - from, k), b);
        out
    };
    let all = part(0, rows);
    for (from, to) in [(0, 1), (511, 513), (512, 700), (3, 70), (699, 700)] {
        assert!(part(from, to) == all[from * n..to * n], "rows {from}..{to} of {k} by {n}");
    }
    for threads in [1, 2, 5] {
        assert!(in_threads(threads, || part(0, rows)) == all, "{threads} threads");
    }
}

/// A packed weight whose numbers bfloat16 does not hold.
struct Floats {
    data: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl PackedWeight for Floats {
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

#[rstest]
fn a_packed_weight_is_rounded_to_bfloat16(#[values(false, true)] transposed: bool, #[values(1, 70)] rows: usize) {
    let (inner, width) = (300, 200);
    let [weight_rows, weight_columns] = if transposed { [width, inner] } else { [inner, width] };
    let weight = Floats { data: numbers(inner * width, 2), rows: weight_rows, columns: weight_columns };
    let x = to_bfloat16(&numbers(rows * inner, 1));
    let (wide_x, rounded) = (wide(&x), wide(&to_bfloat16(&weight.data)));
    let b = Matrix { data: &rounded[..], rows: inner, columns: width, transposed };
    let (mut found, mut exact) = (vec![bf16::ONE; rows * width], vec![1.0; rows * width]);
    multiply_packed_bf16(&mut found, true, 0.5, Matrix::new(&x, rows, inner), &weight, transposed);
    multiply(&mut exact, true, 0.5, Matrix::new(&wide_x, rows, inner), b);
    assert!(bfloat16_products().is_some() || found == to_bfloat16(&exact));
    // With each instruction, those of plain factors, to the bit.
    let (a, plain) = (Bfloat16Matrix::new(&x, rows, inner), to_bfloat16(&weight.data));
    let b: Bfloat16Matrix<'_> = Matrix { data: &plain[..], rows: inner, columns: width, transposed }.into();
    for instructions in Instructions::testable() {
        for accumulate in [false, true] {
            let scale = Scale { alpha: 0.5, accumulate };
            let mut expected = vec![1.0; rows * width];
            Product { instructions, scale }.of_lanes(
                &mut expected,
                &[&a.lanes()],
                &[&b.transpose().lanes()],
                &[[0, 0]],
            );
            for threads in [1, 3] {
                let mut found = vec![1.0; rows * width];
                in_threads(threads, || packed(Some(instructions), &mut found, scale, a, &weight, transposed));
                assert!(found == expected, "{instructions:?}, {threads} threads");
            }
        }
    }
}
