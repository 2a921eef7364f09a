//! Compares CubeCL's kernels with the plain forms on flex, so that no GPU driver is on both sides.

mod attention;
mod packed;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use rstest::rstest;

use crate::devices::HasDevices;
use crate::{AdamwStep, DropoutRows, FusedOps, GateActivation, Gradient, Moments, OutputLayer, Rotary, plain};

#[cfg(feature = "wgpu")]
type Cube = burn_wgpu::Wgpu;
#[cfg(all(feature = "cuda", not(feature = "wgpu")))]
type Cube = burn_cuda::Cuda;
type Device = <Cube as burn::tensor::backend::BackendTypes>::Device;
type Matrix = Tensor<Flex, 2>;
type OnDevice = Tensor<Cube, 2>;

fn device() -> Device {
    Cube::device(0).expect("a GPU, or a Vulkan driver in software")
}

fn random(rows: usize, columns: usize) -> Matrix {
    Tensor::random([rows, columns], Distribution::Uniform(-1.0, 1.0), &FlexDevice)
}

fn there(x: &Matrix) -> OnDevice {
    OnDevice::from_data(x.to_data(), &device())
}

fn here(x: &OnDevice) -> Matrix {
    Matrix::from_data(x.to_data(), &FlexDevice)
}

fn assert_same(found: &OnDevice, expected: &Matrix, relative: f32) {
    let found = here(found);
    assert_eq!(found.dims(), expected.dims());
    let size: f32 = expected.clone().abs().max().into_scalar();
    let difference: f32 = (found - expected.clone()).abs().max().into_scalar();
    assert!(size > 1e-3, "numbers of zero show nothing");
    assert!(difference <= relative * size, "{difference} of {size}");
}

#[rstest]
#[case(7, 24, 24)]
#[case(9, 24, 8)]
#[case(700, 576, 576)]
fn norms_of_rows_and_of_heads(#[case] rows: usize, #[case] width: usize, #[case] n: usize) {
    let (x, weight, d) = (random(rows, width), random(1, n), random(rows, width));
    let expected = plain::rms_norm(x.clone(), weight.clone(), 1e-5);
    assert_same(&Cube::rms_norm(&there(&x), &there(&weight), 1e-5), &expected, 1e-6);
    let (mut found, mut expected): (Gradient<Cube>, Gradient<Flex>) = (None, None);
    for _ in 0..2 {
        let dx = Cube::rms_norm_backward(&there(&x), &there(&weight), 1e-5, there(&d), Some(&mut found));
        let plain = plain::rms_norm_backward(&x, &weight, 1e-5, d.clone(), Some(&mut expected));
        assert_same(&dx, &plain, 2e-6);
        assert_same(&Cube::rms_norm_backward(&there(&x), &there(&weight), 1e-5, there(&d), None), &plain, 2e-6);
    }
    assert_same(&found.expect("a gradient"), &expected.expect("a gradient"), 2e-6);
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
        let plain = Rotary::<Flex>::new(cos.clone(), sin.clone(), 5, head_dim, &FlexDevice);
        let rotary = Rotary::<Cube>::new(cos.clone(), sin.clone(), 5, head_dim, &device());
        assert_same(&Cube::rotate(there(&x), &rotary, inverse), &plain::rotate(x.clone(), &plain, inverse), 1e-6);
    }
    let (gate, up, d) = (random(50, 240).mul_scalar(9.0), random(50, 240), random(50, 240));
    let plain = plain::gated(activation, gate.clone(), up.clone());
    assert_same(&Cube::gated(activation, &there(&gate), &there(&up)), &plain, 1e-6);
    let held = there(&gate);
    let (d_gate, d_up) = Cube::gated_backward(activation, held.clone(), there(&up), &there(&d));
    let (plain_gate, plain_up) = plain::gated_backward(activation, gate.clone(), up, &d);
    assert_same(&d_gate, &plain_gate, 2e-6);
    assert_same(&d_up, &plain_up, 2e-6);
    assert_same(&held, &gate, 0.0);
}

#[test]
fn dropout_draws_the_same_as_on_the_host() {
    let x = random(7, 30);
    let keys = [5, u64::MAX - 3];
    let rows = [DropoutRows { rows: 0..3, first: 0, key: keys[0] }, DropoutRows { rows: 4..7, first: 2, key: keys[1] }];
    assert_same(&Cube::dropout(there(&x), &rows, 0.3), &plain::dropout(x, &rows, 0.3), 0.0);
}

#[test]
fn rows_that_repeat_are_added_each_time() {
    let (x, values) = (random(9, 300), random(6, 300));
    let rows = [4, 0, 4, 8, 4, 0];
    let expected = plain::add_rows(x.clone(), &rows, &values);
    let held = there(&x);
    assert_same(&Cube::add_rows(held.clone(), &rows, &there(&values)), &expected, 1e-6);
    assert_same(&held, &x, 0.0);
    assert_same(&Cube::add_rows(held, &[], &there(&values)), &x, 0.0);
}

#[test]
fn padding_is_a_sixteenth_at_most() {
    assert_eq!([0, 1, 16, 17, 512, 513, 1537].map(Cube::pack_rows), [0, 16, 16, 32, 512, 544, 1600]);
    assert!((256..20_000).all(|rows| (rows..=rows + rows / 16).contains(&Cube::pack_rows(rows))));
}

#[rstest]
fn target_log_probs_and_their_gradients(#[values(None, Some(2.5))] softcap: Option<f32>) {
    let (hidden, weight) = (random(21, 16).mul_scalar(3.0), random(733, 16));
    let (on_hidden, on_weight) = (there(&hidden), there(&weight));
    let layer = OutputLayer { weight: &weight, softcap };
    let on_layer = OutputLayer { weight: &on_weight, softcap };
    let targets: Vec<u32> = (0..21).map(|i| i * 97 % 733).collect();
    let coefficients: Vec<f32> = (0..21).map(|i| 0.3 - 0.1 * i as f32).collect();
    let found = Cube::target_logps(&on_hidden, on_layer, &targets);
    let expected = plain::target_logps(&hidden, layer, &targets);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found.logp - expected.logp).abs() < 5e-6, "{} against {}", found.logp, expected.logp);
        assert!((found.log_sum_exp - expected.log_sum_exp).abs() < 5e-6);
    }
    let (mut d_found, mut d_expected): (Gradient<Cube>, Gradient<Flex>) = (None, None);
    for _ in 0..2 {
        let (t, c) = (&targets, &coefficients);
        let d = Cube::target_logps_backward(&on_hidden, on_layer, t, &found, c, Some(&mut d_found));
        let plain = plain::target_logps_backward(&hidden, layer, t, &expected, c, Some(&mut d_expected));
        assert_same(&d, &plain, 5e-6);
        assert_same(&Cube::target_logps_backward(&on_hidden, on_layer, t, &found, c, None), &plain, 5e-6);
    }
    assert_same(&d_found.expect("a gradient"), &d_expected.expect("a gradient"), 5e-6);
    let (logps, d) = Cube::target_logps_with_gradients(&on_hidden, on_layer, &targets);
    assert_eq!(logps, found);
    assert_same(&d, &plain::target_logps_backward(&hidden, layer, &targets, &expected, &[1.0; 21], None), 5e-6);
    assert_eq!(Cube::target_logps(&on_hidden.narrow(0, 0, 1), on_layer, &[]), []);
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
    let held = there(&p);
    let (new_p, new) = Cube::adamw(held.clone(), &there(&g), Moments { m: there(&m), v: there(&v) }, &step);
    let (plain_p, plain) = plain::adamw(p.clone(), &g, Moments { m, v }, &step);
    assert_same(&new_p, &plain_p, 1e-6);
    assert_same(&new.m, &plain.m, 1e-6);
    assert_same(&new.v, &plain.v, 1e-6);
    assert_same(&held, &p, 0.0);
    let large = random(1000, 77);
    let found = Cube::sum_of_squares(&[&there(&g), &there(&large)]);
    let expected = plain::sum_of_squares(&[&g, &large]);
    assert!((found - expected).abs() < 1e-6 * expected, "{found} against {expected}");
    assert_eq!(Cube::sum_of_squares(&[]), 0.0);
}

/// A 16-bit dtype that the device computes in, and its relative rounding error.
fn sixteen_bits() -> Option<(DType, f32)> {
    let types = [(DType::BF16, 1.0 / 256.0), (DType::F16, 1.0 / 2048.0)];
    let found = types.into_iter().find(|(dtype, _)| Cube::supports_dtype(&device(), *dtype));
    match found {
        Some((dtype, _)) => println!("computed in {dtype:?}"),
        None => println!("NOT RUN: the device computes in no type of sixteen bits"),
    }
    found
}

/// Operations in 16-bit dtypes compute in float32 and round only their result.
#[test]
fn operations_in_sixteen_bits_round_once() {
    let Some((dtype, rounding)) = sixteen_bits() else { return };
    let rounded = |rows, columns| {
        let x = there(&random(rows, columns)).cast(dtype);
        (here(&x.clone().cast(DType::F32)), x)
    };
    let same = |found: OnDevice, expected: &Matrix| {
        assert_eq!(found.dtype(), dtype);
        assert_same(&found.cast(DType::F32), expected, rounding);
    };
    let weight = random(1, 24);
    let ((x, on_x), (d, on_d), (up, on_up)) = (rounded(9, 24), rounded(9, 24), rounded(9, 24));
    same(Cube::rms_norm(&on_x, &there(&weight), 1e-5), &plain::rms_norm(x.clone(), weight.clone(), 1e-5));
    let found = Cube::rms_norm_backward(&on_x, &there(&weight), 1e-5, on_d.clone(), None);
    same(found, &plain::rms_norm_backward(&x, &weight, 1e-5, d.clone(), None));
    let activation = GateActivation::Silu;
    same(Cube::gated(activation, &on_x, &on_up), &plain::gated(activation, x.clone(), up.clone()));
    let found = Cube::gated_backward(activation, on_x.clone(), on_up.clone(), &on_d);
    let expected = plain::gated_backward(activation, x.clone(), up.clone(), &d);
    same(found.0, &expected.0);
    same(found.1, &expected.1);
    same(
        Cube::add_rows(on_x, &[1, 1, 2], &on_up.narrow(0, 0, 3)),
        &plain::add_rows(x, &[1, 1, 2], &up.narrow(0, 0, 3)),
    );
}

#[test]
fn log_probs_in_sixteen_bits() {
    let Some((dtype, rounding)) = sixteen_bits() else { return };
    // A number of rows that needs padding.
    let (hidden, weight) = (there(&random(21, 16)).cast(dtype), there(&random(733, 16)).cast(dtype));
    let targets: Vec<u32> = (0..21).map(|i| i * 97 % 733).collect();
    let layer = OutputLayer { weight: &weight, softcap: None };
    let (found, gradients) = Cube::target_logps_with_gradients(&hidden, layer, &targets);
    let [hidden, weight] = [hidden, weight].map(|x| here(&x.cast(DType::F32)));
    let layer = OutputLayer { weight: &weight, softcap: None };
    let expected = plain::target_logps(&hidden, layer, &targets);
    // Logits are below 16, and each is rounded.
    let close = |a: f64, b: f64| (a - b).abs() < 16.0 * f64::from(rounding);
    assert!(found.iter().zip(&expected).all(|(a, b)| close(a.logp, b.logp) && close(a.log_sum_exp, b.log_sum_exp)));
    let expected = plain::target_logps_backward(&hidden, layer, &targets, &expected, &[1.0; 21], None);
    assert_eq!(gradients.dtype(), dtype);
    assert_same(&gradients.cast(DType::F32), &expected, 4.0 * rounding);
}
