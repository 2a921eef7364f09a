//! Products of float32 numbers in parts of bfloat16.

use super::*;

/// The largest error of a sum, as a part of the sum of its products' sizes.
fn split_error(instructions: Instructions, precision: MatmulPrecision, seed: u64) -> f64 {
    let (m, n, k) = (33, 40, 96);
    let (a, b) = (numbers(m * k, seed), numbers(k * n, seed + 100));
    let mut out = vec![0.0; m * n];
    let split = Split { instructions, precision };
    split.multiply(&mut out, false, 1.0, Matrix::transpose_of(&a, m, k).into(), Matrix::new(&b, k, n).into());
    let error = |(index, &found): (usize, &f32)| {
        let products = || (0..k).map(|l| f64::from(a[l * m + index / n]) * f64::from(b[l * n + index % n]));
        (f64::from(found) - products().sum::<f64>()).abs() / products().map(f64::abs).sum::<f64>()
    };
    out.iter().enumerate().map(error).fold(0.0, f64::max)
}

#[rstest]
#[case(MatmulPrecision::High, 2f64.powi(-15))]
#[case(MatmulPrecision::Medium, 2f64.powi(-7) + 2f64.powi(-16))]
fn split_products_are_as_exact_as_they_say(#[case] precision: MatmulPrecision, #[case] bound: f64) {
    for instructions in testable().into_iter().flatten() {
        let worst = (0..4).map(|seed| split_error(instructions, precision, seed)).fold(0.0, f64::max);
        println!("{precision:?} with {}: {worst:.1e} of the products' sizes", instructions.name());
        // A sum in float32 of 288 products adds at most this.
        assert!(worst <= bound + 288.0 * 2f64.powi(-24), "{worst}");
        assert!(worst >= bound / 100.0, "{worst}: not this precision");
    }
}

#[test]
fn without_faster_instructions_split_products_are_those_of_float32() {
    let (a, b) = (numbers(20 * 30, 1), numbers(30 * 10, 2));
    let (a, b) = (Matrix::new(&a, 20, 30), Matrix::new(&b, 30, 10));
    let [mut found, mut expected] = [vec![0.0; 200], vec![0.0; 200]];
    multiply_split(&mut found, false, 1.0, a, b, MatmulPrecision::High);
    crate::multiply(&mut expected, false, 1.0, a, b);
    assert_eq!(found == expected, bfloat16_products() != Some("amx"));
}
