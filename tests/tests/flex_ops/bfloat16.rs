//! In bfloat16, against the plain forms in float32, and the dtypes of results.

use burn::tensor::{DType, Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use collimate_backend::{
    AttentionMap, AttentionSaved, AttentionShape, ComputeDtype, DropoutRows, Factor, FusedOps, GateActivation,
    Gradient, OutputLayer, Rotary, Segment, in_dtype, in_float32, multiplies_in, plain,
};
use rstest::rstest;

type Matrix = Tensor<Flex, 2>;

/// Numbers that bfloat16 holds, in `dtype`.
fn random(rows: usize, columns: usize, dtype: DType) -> Matrix {
    let numbers = Tensor::random([rows, columns], Distribution::Uniform(-1.0, 1.0), &FlexDevice);
    in_dtype(in_dtype(numbers, DType::BF16), dtype)
}

fn narrow(rows: usize, columns: usize) -> Matrix {
    random(rows, columns, DType::BF16)
}

/// Asserts that `found` is in `dtype` and, but for a rounding to it, `expected`; `more` is what else may differ, relative to
/// the largest.
fn assert_same(found: &Matrix, expected: &Matrix, dtype: DType, more: f32) {
    assert_eq!((found.dtype(), found.dims()), (dtype, expected.dims()));
    let expected = in_float32(expected.clone());
    let largest: f32 = expected.clone().abs().max().into_scalar();
    assert!(largest > 1e-3, "numbers of zero show nothing");
    // Of 8 significant bits a rounding moves a number by at most 2⁻⁸ of itself.
    let rounding =
        if dtype == DType::BF16 { expected.clone().abs().mul_scalar(1.0 / 256.0) } else { expected.zeros_like() };
    let beyond = (in_float32(found.clone()) - expected).abs() - rounding;
    let beyond: f32 = beyond.max().into_scalar();
    assert!(beyond <= more * largest, "{beyond} beyond a rounding, of {largest}");
}

/// What a result may differ by, as a part of the largest, where a kernel's own numbers are factors of a product: where the processor
/// multiplies bfloat16, they are rounded to it, by at most 2⁻⁹ of themselves.
fn rounded_factors() -> f32 {
    let are_rounded = multiplies_in("flex", ComputeDtype::Bfloat16).expect("flex is in every build");
    if are_rounded { 1.0 / 256.0 } else { 1e-5 }
}

const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

#[rstest]
fn products_of_any_mix_of_dtypes(
    #[values(0, 1)] a: usize,
    #[values(0, 1)] b: usize,
    #[values(None, Some(0), Some(1))] onto: Option<usize>,
    #[values(false, true)] transposed: bool,
) {
    let (a, b, onto) = (DTYPES[a], DTYPES[b], onto.map(|onto| DTYPES[onto]));
    let (left, right) = (random(40, 24, a), random(24, 17, b));
    let onto = onto.map(|dtype| random(40, 17, dtype));
    let mut expected = in_float32(left.clone()).matmul(in_float32(right.clone())).mul_scalar(0.5);
    if let Some(onto) = &onto {
        expected = expected + in_float32(onto.clone());
    }
    let dtype = onto.as_ref().map_or(if a == DType::F32 { b } else { a }, |onto| onto.dtype());
    let (left, right) = if transposed { (left.transpose(), right.transpose()) } else { (left, right) };
    let factor = |matrix| Factor { matrix, transposed };
    let found = Flex::multiply(onto, 0.5, factor(&left), factor(&right));
    assert_same(&found, &expected, dtype, 1e-5);
}

#[test]
fn factors_in_float32_are_rounded_like_the_other() {
    let x = narrow(5, 300);
    let weight = Tensor::<Flex, 2>::random([300, 20], Distribution::Uniform(-1.0, 1.0), &FlexDevice);
    // burn's own cast goes through float64 and misrounds some numbers just above a tie.
    let rounded = Flex::in_dtype(weight.clone(), ComputeDtype::Bfloat16);
    let [found, expected] = [&weight, &rounded].map(|w| Flex::multiply(None, 1.0, Factor::new(&x), Factor::new(w)));
    assert_eq!(found.into_data(), expected.into_data());
}

#[test]
fn gradients_are_summed_in_float32() {
    let (x, dy) = (narrow(50, 24), narrow(50, 17));
    let mut gradient: Gradient<Flex> = None;
    let exact = in_float32(x.clone()).transpose().matmul(in_float32(dy.clone()));
    for times in 1..3 {
        Flex::add_product(&mut gradient, 1.0, Factor::transpose_of(&x), Factor::new(&dy));
        assert_same(gradient.as_ref().expect("a gradient"), &exact.clone().mul_scalar(times as f32), DType::F32, 1e-5);
    }
}

#[rstest]
fn norms_rotation_dropout_and_gates(
    #[values(GateActivation::Silu, GateActivation::Gelu, GateActivation::GeluTanh, GateActivation::Sigmoid)]
    activation: GateActivation,
) {
    let (x, weight, d) = (narrow(9, 24), random(1, 8, DType::F32), narrow(9, 24));
    let [wide_x, wide_d] = [&x, &d].map(|x| in_float32(x.clone()));
    assert_same(
        &Flex::rms_norm(&x, &weight, 1e-5),
        &plain::rms_norm(wide_x.clone(), weight.clone(), 1e-5),
        DType::BF16,
        1e-5,
    );
    let (mut found, mut expected): (Gradient<Flex>, Gradient<Flex>) = (None, None);
    let plain = plain::rms_norm_backward(&wide_x, &weight, 1e-5, wide_d.clone(), Some(&mut expected));
    for d in [d.clone(), wide_d.clone()] {
        found = None;
        let d_x = Flex::rms_norm_backward(&x, &weight, 1e-5, d, Some(&mut found));
        assert_same(&d_x, &plain, DType::BF16, 1e-5);
    }
    assert_same(&found.expect("a gradient"), &expected.expect("a gradient"), DType::F32, 1e-5);

    let angles: Vec<f32> = (0..9 * 4).map(|i| i as f32 * 0.3).collect();
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
    let rotary = Rotary::<Flex>::new(cos, sin, 9, 8, &FlexDevice);
    assert_same(
        &Flex::rotate(x.clone(), &rotary, true),
        &plain::rotate(wide_x.clone(), &rotary, true),
        DType::BF16,
        1e-5,
    );
    let rows = [DropoutRows { rows: 0..3, first: 0, key: 5 }];
    assert_same(&Flex::dropout(x.clone(), &rows, 0.3), &plain::dropout(wide_x.clone(), &rows, 0.3), DType::BF16, 1e-6);
    assert_same(&Flex::columns(&x, 3..9), &wide_x.clone().narrow(1, 3, 6), DType::BF16, 0.0);

    let up = narrow(9, 24);
    let wide_up = in_float32(up.clone());
    let plain = plain::gated(activation, wide_x.clone(), wide_up.clone());
    assert_same(&Flex::gated(activation, &x, &up), &plain, DType::BF16, 1e-5);
    let (d_gate, d_up) = Flex::gated_backward(activation, x, up, &d);
    let (plain_gate, plain_up) = plain::gated_backward(activation, wide_x, wide_up, &wide_d);
    assert_same(&d_gate, &plain_gate, DType::BF16, 1e-5);
    assert_same(&d_up, &plain_up, DType::BF16, 1e-5);
}

#[test]
fn additions_keep_the_dtype_of_what_is_added_to() {
    for (to, from) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (x, y) = (random(6, 5, DTYPES[to]), random(6, 5, DTYPES[from]));
        let [wide_x, wide_y] = [&x, &y].map(|x| in_float32(x.clone()));
        assert_same(&Flex::add(x.clone(), &y), &(wide_x.clone() + wide_y.clone()), DTYPES[to], 1e-6);
        let rows = [5, 4, 3, 2, 1, 0];
        assert_same(&Flex::add_rows(x, &rows, &y), &plain::add_rows(wide_x, &rows, &wide_y), DTYPES[to], 1e-6);
    }
    let x = narrow(6, 5);
    let (found, expected) = (Flex::sum_of_squares(&[&x]), plain::sum_of_squares(&[&x]));
    assert!((found - expected).abs() < 1e-5 * expected, "{found} against {expected}");
}

#[test]
fn attention_rounds_its_results_once() {
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 6, scale: 0.4, window: None, softcap: None };
    let segments = [Segment { context: 0..0, rows: 0..7 }, Segment { context: 0..7, rows: 7..9 }];
    let map = <Flex as FusedOps>::Attention::new(&segments, &shape, &[None], &FlexDevice);
    let tiles = plain::Tiles::new(&segments, &shape, &[None], &FlexDevice);
    let (q, k, v, d) = (narrow(9, 24), narrow(9, 12), narrow(9, 12), narrow(9, 24));
    let [wide_q, wide_k, wide_v, wide_d] = [&q, &k, &v, &d].map(|x| in_float32(x.clone()));
    let (out, lse) = map.attend(&shape, &q, &k, &v);
    let (expected, _) = tiles.attend(&shape, &wide_q, &wide_k, &wide_v);
    assert_same(&out, &expected, DType::BF16, rounded_factors());
    assert_eq!(lse.dtype(), DType::F32);
    let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
    let wide_saved = AttentionSaved { q: &wide_q, k: &wide_k, v: &wide_v, out: &expected, lse: &lse };
    let (found, expected) =
        (map.attend_backward(&shape, saved, &d), tiles.attend_backward(&shape, wide_saved, &wide_d));
    // The saved output is rounded, by up to 2⁻⁸ of itself.
    found.iter().zip(&expected).for_each(|(found, expected)| assert_same(found, expected, DType::BF16, 1.0 / 256.0));
}

#[test]
fn log_probs_of_targets_are_computed_in_float32() {
    let (hidden, weight) = (narrow(21, 16), narrow(333, 16));
    let [wide_hidden, wide_weight] = [&hidden, &weight].map(|x| in_float32(x.clone()));
    let (layer, wide) =
        (OutputLayer { weight: &weight, softcap: None }, OutputLayer { weight: &wide_weight, softcap: None });
    let targets: Vec<u32> = (0..21).map(|i| i * 97 % 333).collect();
    let coefficients: Vec<f32> = (0..21).map(|i| 0.3 - 0.1 * i as f32).collect();
    let (found, expected) =
        (Flex::target_logps(&hidden, layer, &targets), plain::target_logps(&wide_hidden, wide, &targets));
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found.logp - expected.logp).abs() < 1e-5, "{} against {}", found.logp, expected.logp);
    }
    let (mut d_found, mut d_expected): (Gradient<Flex>, Gradient<Flex>) = (None, None);
    let (t, c) = (&targets, &coefficients);
    let d = Flex::target_logps_backward(&hidden, layer, t, &found, c, Some(&mut d_found));
    let plain = plain::target_logps_backward(&wide_hidden, wide, t, &expected, c, Some(&mut d_expected));
    assert_same(&d, &plain, DType::BF16, rounded_factors());
    assert_same(&d_found.expect("a gradient"), &d_expected.expect("a gradient"), DType::F32, rounded_factors());
    let (logps, d) = Flex::target_logps_with_gradients(&hidden, layer, &targets);
    assert_eq!(logps, found);
    let plain = plain::target_logps_backward(&wide_hidden, wide, t, &expected, &[1.0; 21], None);
    assert_same(&d, &plain, DType::BF16, rounded_factors());
}
