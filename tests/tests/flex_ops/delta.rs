//! The gated delta rule and its convolution, in chunks, against their plain forms, row by row.

use burn::tensor::{DType, Distribution, Tensor};
use burn_flex::{Flex, FlexDevice};
use collimate_backend::{DeltaInputs, DeltaShape, FusedOps, Gradient, Segment, in_dtype, in_float32, plain};
use rstest::rstest;

type Matrix = Tensor<Flex, 2>;

const ROWS: usize = 120;
const SHAPE: DeltaShape = DeltaShape { key_heads: 2, value_heads: 4, key_dim: 6, value_dim: 10 };

fn random(rows: usize, columns: usize, from: f64, to: f64) -> Matrix {
    Tensor::random([rows, columns], Distribution::Uniform(from, to), &FlexDevice)
}

/// A prompt longer than a chunk with three responses, a prompt with one, and a sequence of its own.
fn segments() -> Vec<Segment> {
    let segment = |context, rows| Segment { context, rows };
    vec![
        segment(0..0, 0..70),
        segment(0..70, 70..71),
        segment(0..70, 71..85),
        segment(0..70, 85..90),
        segment(0..0, 90..92),
        segment(90..92, 92..99),
        segment(0..0, 99..ROWS),
    ]
}

fn assert_same(found: &Matrix, expected: &Matrix, relative: f32) {
    assert_eq!(found.dims(), expected.dims());
    let (found, expected) = (in_float32(found.clone()), in_float32(expected.clone()));
    let size: f32 = expected.clone().abs().max().into_scalar();
    let difference: f32 = (found - expected).abs().max().into_scalar();
    assert!(size > 1e-3, "numbers of zero show nothing");
    assert!(difference <= relative * size, "{difference} of {size}");
}

/// Numbers that bfloat16 holds if it is the dtype, in float32.
fn in_both(x: Matrix, dtype: DType) -> [Matrix; 2] {
    let x = in_dtype(x, dtype);
    [x.clone(), in_float32(x)]
}

#[rstest]
#[case(DType::F32, 1e-5)]
#[case(DType::BF16, 1.0 / 256.0)]
fn the_delta_rule_in_chunks_is_the_one_token_by_token(#[case] dtype: DType, #[case] relative: f32) {
    let [qkv, wide] = in_both(random(ROWS, SHAPE.width(), -1.0, 1.0), dtype);
    let (decay, beta) = (random(ROWS, 4, -0.5, 0.0), random(ROWS, 4, 0.0, 1.0));
    let [d_out, wide_d] = in_both(random(ROWS, SHAPE.values_width(), -1.0, 1.0), dtype);
    let inputs = DeltaInputs { qkv: &qkv, decay: &decay, beta: &beta };
    let plain_inputs = DeltaInputs { qkv: &wide, ..inputs };
    let segments = segments();
    let found = Flex::delta_rule(&SHAPE, &segments, inputs);
    assert_eq!(found.dtype(), dtype);
    let expected = plain::delta_rule(&SHAPE, &segments, [wide.clone(), decay.clone(), beta.clone()]);
    assert_same(&found, &expected, relative);
    let plain = plain::chunked_delta_rule(&SHAPE, &segments, [wide.clone(), decay.clone(), beta.clone()]);
    assert_same(&plain, &expected, 1e-5);

    let found = Flex::delta_rule_backward(&SHAPE, &segments, inputs, &d_out);
    let expected = plain::delta_rule_backward(&SHAPE, &segments, plain_inputs, &wide_d);
    assert_eq!(found.each_ref().map(|x| x.dtype()), [dtype, DType::F32, DType::F32]);
    found.iter().zip(&expected).for_each(|(found, expected)| assert_same(found, expected, relative));
    let plain = plain::chunked_delta_rule_backward(&SHAPE, &segments, plain_inputs, &wide_d);
    plain.iter().zip(&expected).for_each(|(plain, expected)| assert_same(plain, expected, 1e-5));

    let flat = |states: Tensor<Flex, 3>| states.reshape([3 * 4, 6 * 10]);
    let expected = plain::delta_states(&SHAPE, &segments, plain_inputs);
    let expected = flat(expected);
    assert_same(&flat(Flex::delta_states(&SHAPE, &segments, inputs)), &expected, 1e-5);
    assert_same(&flat(plain::chunked_delta_states(&SHAPE, &segments, plain_inputs)), &expected, 1e-5);
}

#[rstest]
#[case(DType::F32, 1e-5)]
#[case(DType::BF16, 1.0 / 256.0)]
fn the_convolution_reads_a_prompts_last_rows(#[case] dtype: DType, #[case] relative: f32) {
    let [x, wide] = in_both(random(ROWS, 24, -1.0, 1.0), dtype);
    let [d_out, wide_d] = in_both(random(ROWS, 24, -1.0, 1.0), dtype);
    let (weight, segments) = (random(1, 24 * 4, -1.0, 1.0), segments());
    let found = Flex::convolution(&x, &weight, &segments);
    assert_eq!(found.dtype(), dtype);
    assert_same(&found, &plain::convolution(wide.clone(), weight.clone(), &segments), relative);
    let (mut d_weight, mut expected): (Gradient<Flex>, Gradient<Flex>) = (None, None);
    for _ in 0..2 {
        let found = Flex::convolution_backward(&x, &weight, &segments, &d_out, Some(&mut d_weight));
        let plain = plain::convolution_backward(&wide, &weight, &segments, &wide_d, Some(&mut expected));
        assert_eq!(found.dtype(), dtype);
        assert_same(&found, &plain, relative);
    }
    assert_same(&d_weight.expect("a gradient"), &expected.expect("a gradient"), 1e-5);
}

/// Where keys are alike and nothing decays, a series in powers of their products would lose every digit.
#[test]
fn keys_that_are_alike_are_no_harder() {
    let alike = random(1, SHAPE.width(), 0.5, 1.0).repeat_dim(0, ROWS) + random(ROWS, SHAPE.width(), -0.01, 0.01);
    let inputs = [alike, random(ROWS, 4, -1e-3, 0.0), random(ROWS, 4, 0.95, 1.0)];
    let [qkv, decay, beta] = &inputs;
    let expected = plain::delta_rule(&SHAPE, &segments(), inputs.clone());
    assert_same(&Flex::delta_rule(&SHAPE, &segments(), DeltaInputs { qkv, decay, beta }), &expected, 1e-4);
    assert_same(&plain::chunked_delta_rule(&SHAPE, &segments(), inputs.clone()), &expected, 1e-4);
}

/// Decoding goes on token by token from where a prompt ended.
#[test]
fn a_step_from_a_prompts_state_is_the_first_token_of_a_response() {
    let inputs = [random(ROWS, SHAPE.width(), -1.0, 1.0), random(ROWS, 4, -0.5, 0.0), random(ROWS, 4, 0.0, 1.0)];
    let [qkv, decay, beta] = &inputs;
    let all = DeltaInputs { qkv, decay, beta };
    let segments = segments();
    let states = Flex::delta_states(&SHAPE, &segments, all).narrow(0, 0, SHAPE.value_heads);
    let token = plain::DeltaToken::all(&SHAPE, inputs.clone().map(|x| x.narrow(0, 85, 1)));
    let (_, out) = token.step(states);
    let expected = Flex::delta_rule(&SHAPE, &segments, all).narrow(0, 85, 1);
    assert_same(&out.reshape([1, SHAPE.values_width()]), &expected, 1e-5);
}
