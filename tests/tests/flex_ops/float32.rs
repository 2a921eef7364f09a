//! In float32, against the plain forms of the same operations.

use burn::tensor::{Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use collimate_backend::{
    AdamwStep, AttentionMap, AttentionSaved, AttentionShape, DropoutRows, Factor, FusedOps, GateActivation, Gradient,
    Moments, OutputLayer, Rotary, Segment, plain,
};
use rstest::rstest;

type Matrix = Tensor<Flex, 2>;

fn random(rows: usize, columns: usize) -> Matrix {
    Tensor::random([rows, columns], Distribution::Uniform(-1.0, 1.0), &FlexDevice)
}

fn assert_same(found: &Matrix, expected: &Matrix, relative: f32) {
    assert_eq!(found.dims(), expected.dims());
    let size: f32 = expected.clone().abs().max().into_scalar();
    let difference: f32 = (found.clone() - expected.clone()).abs().max().into_scalar();
    assert!(size > 1e-3, "numbers of zero show nothing");
    assert!(difference <= relative * size, "{difference} of {size}");
}

#[rstest]
fn products_of_views_and_transposes(
    #[values(false, true)] a_transposed: bool,
    #[values(false, true)] b_transposed: bool,
) {
    let (a, b, onto) = (random(40, 24), random(24, 17), random(40, 17));
    let stored = |matrix: &Matrix, transposed: bool| {
        if transposed { matrix.clone().transpose() } else { matrix.clone() }
    };
    // A stored transpose is a view here, which must be made contiguous before it is read.
    let (left, right) = (stored(&a, a_transposed), stored(&b, b_transposed));
    let factors =
        (Factor { matrix: &left, transposed: a_transposed }, Factor { matrix: &right, transposed: b_transposed });
    let expected = onto.clone() + a.clone().matmul(b.clone()).mul_scalar(0.5);
    assert_same(&Flex::multiply(Some(onto.clone()), 0.5, factors.0, factors.1), &expected, 1e-5);
    assert_same(&plain::multiply(Some(onto.clone()), 0.5, factors.0, factors.1), &expected, 1e-5);
    assert_same(&Flex::multiply(None, 1.0, factors.0, factors.1), &a.matmul(b), 1e-5);
}

#[test]
fn in_place_operations_leave_other_holders_alone() {
    let x = random(3, 4);
    let held = x.clone();
    let sum = Flex::add(x, &held);
    assert_same(&sum, &held.clone().mul_scalar(2.0), 1e-6);
    let scattered = Flex::add_rows(held.clone(), &[1, 1], &random(2, 4));
    assert_same(&scattered.narrow(0, 0, 1), &held.narrow(0, 0, 1), 1e-6);
}

#[test]
fn columns_are_copied_in_order() {
    let x = random(5, 24);
    assert_same(&Flex::columns(&x, 6..13), &x.clone().narrow(1, 6, 7), 1e-6);
    let view = random(24, 5).transpose();
    assert_same(&Flex::columns(&view, 20..24), &view.narrow(1, 20, 4), 1e-6);
}

#[rstest]
#[case(24)]
#[case(8)]
fn norms_of_rows_and_of_heads(#[case] width: usize) {
    let (x, weight, d) = (random(9, 24), random(1, width), random(9, 24));
    assert_same(&Flex::rms_norm(&x, &weight, 1e-5), &plain::rms_norm(x.clone(), weight.clone(), 1e-5), 1e-5);
    let (mut found, mut expected): (Gradient<Flex>, Gradient<Flex>) = (None, None);
    for _ in 0..2 {
        let dx = Flex::rms_norm_backward(&x, &weight, 1e-5, d.clone(), Some(&mut found));
        let plain = plain::rms_norm_backward(&x, &weight, 1e-5, d.clone(), Some(&mut expected));
        assert_same(&dx, &plain, 1e-5);
    }
    assert_same(&found.expect("a gradient"), &expected.expect("a gradient"), 1e-5);
}

#[rstest]
fn rotation_and_gates(
    #[values(GateActivation::Silu, GateActivation::Gelu, GateActivation::GeluTanh, GateActivation::Sigmoid)]
    activation: GateActivation,
) {
    let angles: Vec<f32> = (0..5 * 4).map(|i| i as f32 * 0.3).collect();
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
    let x = random(5, 24);
    for (inverse, head_dim) in [(false, 8), (true, 8), (false, 12), (true, 12)] {
        let rotary = Rotary::<Flex>::new(cos.clone(), sin.clone(), 5, head_dim, &FlexDevice);
        let plain = plain::rotate(x.clone(), &rotary, inverse);
        assert_same(&Flex::rotate(x.clone(), &rotary, inverse), &plain, 1e-5);
    }
    let (gate, up, d) = (random(5, 24).mul_scalar(4.0), random(5, 24), random(5, 24));
    let plain = plain::gated(activation, gate.clone(), up.clone());
    assert_same(&Flex::gated(activation, &gate, &up), &plain, 1e-5);
    let (d_gate, d_up) = Flex::gated_backward(activation, gate.clone(), up.clone(), &d);
    let (plain_gate, plain_up) = plain::gated_backward(activation, gate, up, &d);
    assert_same(&d_gate, &plain_gate, 1e-5);
    assert_same(&d_up, &plain_up, 1e-5);
}

#[test]
fn dropout_draws_the_same_numbers() {
    let x = random(7, 30);
    let rows = [DropoutRows { rows: 0..3, first: 0, key: 5 }, DropoutRows { rows: 4..7, first: 2, key: 9 }];
    assert_same(&Flex::dropout(x.clone(), &rows, 0.3), &plain::dropout(x, &rows, 0.3), 1e-6);
}

#[rstest]
fn attention_over_segments_and_over_tiles(
    #[values(None, Some(4))] window: Option<usize>,
    #[values(None, Some(0.7))] softcap: Option<f32>,
) {
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 6, scale: 0.4, window, softcap };
    let segment = |context, rows| Segment { context, rows };
    // A prompt with two responses, one with a single response, and a sequence on its own.
    let segments = vec![
        segment(0..0, 0..7),
        segment(0..7, 7..9),
        segment(0..7, 9..15),
        segment(0..0, 15..18),
        segment(15..18, 18..19),
        segment(0..0, 19..30),
    ];
    let map = <Flex as FusedOps>::Attention::new(&segments, &shape, &[window], &FlexDevice);
    let tiles = plain::Tiles::new(&segments, &shape, &[window], &FlexDevice);
    let (q, k, v, d) = (random(30, 24), random(30, 12), random(30, 12), random(30, 24));
    let (out, lse) = map.attend(&shape, &q, &k, &v);
    let (expected, _) = tiles.attend(&shape, &q, &k, &v);
    assert_same(&out, &expected, 1e-5);
    let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
    let found = map.attend_backward(&shape, saved, &d);
    let expected = tiles.attend_backward(&shape, saved, &d);
    found.iter().zip(&expected).for_each(|(found, expected)| assert_same(found, expected, 1e-5));
}

#[rstest]
fn target_log_probs_and_their_gradients(#[values(None, Some(2.5))] softcap: Option<f32>) {
    let (hidden, weight) = (random(21, 16).mul_scalar(3.0), random(333, 16));
    let layer = OutputLayer { weight: &weight, softcap };
    let targets: Vec<u32> = (0..21).map(|i| i * 97 % 333).collect();
    let coefficients: Vec<f32> = (0..21).map(|i| 0.3 - 0.1 * i as f32).collect();
    let (found, expected) =
        (Flex::target_logps(&hidden, layer, &targets), plain::target_logps(&hidden, layer, &targets));
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found.logp - expected.logp).abs() < 1e-5, "{} against {}", found.logp, expected.logp);
        assert!((found.log_sum_exp - expected.log_sum_exp).abs() < 1e-5);
    }
    let (mut d_found, mut d_expected): (Gradient<Flex>, Gradient<Flex>) = (None, None);
    for _ in 0..2 {
        let (t, c) = (&targets, &coefficients);
        let d = Flex::target_logps_backward(&hidden, layer, t, &found, c, Some(&mut d_found));
        let plain = plain::target_logps_backward(&hidden, layer, t, &expected, c, Some(&mut d_expected));
        assert_same(&d, &plain, 1e-5);
        assert_same(&Flex::target_logps_backward(&hidden, layer, t, &found, c, None), &plain, 1e-5);
    }
    assert_same(&d_found.expect("a gradient"), &d_expected.expect("a gradient"), 1e-5);
    let (logps, d) = Flex::target_logps_with_gradients(&hidden, layer, &targets);
    assert_eq!(logps, found);
    assert_same(&d, &plain::target_logps_backward(&hidden, layer, &targets, &expected, &[1.0; 21], None), 1e-5);
}

#[test]
fn the_optimizer_and_the_norm() {
    let step = AdamwStep {
        gradient_scale: 0.5,
        beta1: 0.9,
        beta2: 0.999,
        step_size: 0.02,
        correction: 0.3,
        epsilon: 1e-8,
        decay: 0.99,
    };
    let (p, g, m, v) = (random(6, 50), random(6, 50), random(6, 50), random(6, 50).powf_scalar(2.0));
    let moments = Moments { m, v };
    let (new_p, new) = Flex::adamw(p.clone(), &g, moments.clone(), &step);
    let (plain_p, plain) = plain::adamw(p, &g, moments, &step);
    assert_same(&new_p, &plain_p, 1e-5);
    assert_same(&new.m, &plain.m, 1e-5);
    assert_same(&new.v, &plain.v, 1e-5);
    let (found, expected) = (Flex::sum_of_squares(&[&g, &new_p]), plain::sum_of_squares(&[&g, &new_p]));
    assert!((found - expected).abs() < 1e-5 * expected, "{found} against {expected}");
}
