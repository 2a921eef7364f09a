//! Each kernel in bfloat16 gives the float32 kernel's result for the widened operands, rounded once.

use half::bf16;
use rstest::rstest;

use crate::attention::{Inputs, Outputs, attention_backward_by, attention_by};
use crate::gemm::BlockProducts;
use crate::target_logps::{Panel, target_logps_backward_by, target_logps_by, target_logps_with_gradients_by};
use crate::testing::{in_threads, numbers};
use crate::*;

/// Pseudo-random numbers that bfloat16 holds, in it and in float32.
fn operands(len: usize, seed: u64) -> (Vec<bf16>, Vec<f32>) {
    let narrow = to_bfloat16(&numbers(len, seed));
    let wide = narrow.iter().map(|x| x.to_f32()).collect();
    (narrow, wide)
}

fn assert_rounded(found: &[bf16], exact: &[f32], what: &str) {
    assert!(exact.iter().any(|x| x.abs() > 1e-3), "{what}: zeros show nothing");
    assert!(found == to_bfloat16(exact), "{what}");
    let lost = found.iter().zip(exact).any(|(found, exact)| found.to_f32() != *exact);
    assert!(lost, "{what}: what is not rounded shows nothing");
}

#[rstest]
fn norms(#[values(3, 64, 577)] width: usize) {
    let rows = 90;
    let ((x, wide_x), (d, wide_d)) = (operands(rows * width, 1), operands(rows * width, 2));
    let weight = numbers(width, 3);
    let (mut out, mut exact) = (vec![bf16::ZERO; x.len()], vec![0.0; x.len()]);
    rms_norm(&x, &weight, 1e-5, &mut out);
    rms_norm(&wide_x, &weight, 1e-5, &mut exact);
    assert_rounded(&out, &exact, "forward");
    let ((mut dx, mut exact_dx), (mut dw, mut exact_dw)) = ((d, wide_d), (vec![0.5; width], vec![0.5; width]));
    let mut in_float32 = exact_dx.clone();
    rms_norm_backward(&x, &weight, 1e-5, &mut in_float32, None);
    rms_norm_backward(&x, &weight, 1e-5, &mut dx, Some(&mut dw));
    rms_norm_backward(&wide_x, &weight, 1e-5, &mut exact_dx, Some(&mut exact_dw));
    assert_rounded(&dx, &exact_dx, "backward");
    assert_eq!(in_float32, exact_dx, "a gradient in float32 stays in it");
    assert_eq!(dw, exact_dw, "the weight's gradient is float32");
}

#[test]
fn rotation_dropout_and_sums() {
    let (rows, width) = (70, 30);
    let (x, wide_x) = operands(rows * width, 1);
    let (cos, sin): (Vec<f32>, Vec<f32>) = numbers(rows * 4, 2).iter().map(|a| (a.cos(), a.sin())).unzip();
    let (mut found, mut exact) = (x.clone(), wide_x.clone());
    rotate(&mut found, &cos, &sin, 10, 8, false);
    rotate(&mut exact, &cos, &sin, 10, 8, false);
    assert_rounded(&found, &exact, "rotation");

    let (mut found, mut exact) = (x.clone(), wide_x.clone());
    let streams = [DropoutRows { rows: 2..rows, first: 5, key: 3 }];
    dropout(&mut found, width, &streams, 0.3);
    dropout(&mut exact, width, &streams, 0.3);
    assert_rounded(&found, &exact, "dropout");

    let (y, wide_y) = operands(rows * width, 4);
    let (mut found, mut exact) = (x.clone(), wide_x.clone());
    add_scaled(&mut found, 0.3, &y);
    add_scaled(&mut exact, 0.3, &wide_y);
    assert_rounded(&found, &exact, "a sum");
    let mut mixed = x.clone();
    add_scaled(&mut mixed, 0.3, &wide_y);
    assert_eq!(mixed, found, "float32 added to bfloat16");
    assert_eq!(sum_of_squares(&x), sum_of_squares(&wide_x));

    let (mut found, mut exact) = (x, wide_x);
    add_rows(&mut found, width, &[8, 1], &y[..2 * width]);
    add_rows(&mut exact, width, &[8, 1], &wide_y[..2 * width]);
    assert_rounded(&found, &exact, "rows");
}

#[rstest]
fn gates(
    #[values(GateActivation::Silu, GateActivation::Gelu, GateActivation::GeluTanh, GateActivation::Sigmoid)]
    activation: GateActivation,
) {
    let len = 40_003;
    let ((gate, wide_gate), (up, wide_up), (d, wide_d)) = (operands(len, 1), operands(len, 2), operands(len, 3));
    let (mut out, mut exact) = (vec![bf16::ZERO; len], vec![0.0; len]);
    gated(activation, &gate, &up, &mut out);
    gated(activation, &wide_gate, &wide_up, &mut exact);
    assert_rounded(&out, &exact, "forward");
    let ((mut gate, mut exact_gate), (mut up, mut exact_up)) = ((gate, wide_gate), (up, wide_up));
    gated_backward(activation, &mut gate, &mut up, &d);
    gated_backward(activation, &mut exact_gate, &mut exact_up, &wide_d);
    assert_rounded(&gate, &exact_gate, "the gate's gradient");
    assert_rounded(&up, &exact_up, "up's gradient");
}

/// A prompt with two responses, one of them a token, and a pack's other prompt.
fn segments() -> [Segment; 4] {
    let segment = |context, rows| Segment { context, rows };
    [segment(0..0, 0..300), segment(0..300, 300..301), segment(0..300, 301..420), segment(0..0, 420..460)]
}

/// Rows of [`segments`].
const ROWS: usize = 460;

/// Output, log-sum-exps and gradients of attention over [`segments`] with these products.
fn attend<T: Element>(
    products: BlockProducts,
    shape: &AttentionShape,
    [q, k, v, d]: [&[T]; 4],
    out: Option<&[T]>,
) -> (Vec<T>, Vec<f32>, [Vec<T>; 3]) {
    let (mut computed, mut lse) = (vec![T::default(); q.len()], vec![0.0; ROWS * shape.heads]);
    attention_by(products, shape, &segments(), Inputs { q, k, v }, Outputs { out: &mut computed, lse: &mut lse });
    let mut gradients = [q, k, v].map(|x| vec![T::narrow(1.0); x.len()]);
    let saved = AttentionSaved { q, k, v, out: out.unwrap_or(&computed), lse: &lse };
    let to = gradients.each_mut().map(|gradient| &mut gradient[..]);
    attention_backward_by(products, shape, &segments(), saved, d, to);
    (computed, lse, gradients)
}

fn attention_shape(window: Option<usize>, softcap: Option<f32>) -> AttentionShape {
    AttentionShape { heads: 6, kv_heads: 2, head_dim: 20, scale: 0.3, window, softcap }
}

#[rstest]
fn attention_of_segments(#[values(None, Some(40))] window: Option<usize>, #[values(None, Some(1.5))] cap: Option<f32>) {
    let shape = attention_shape(window, cap);
    let ((q, wide_q), (d, wide_d)) = (operands(ROWS * 120, 1), operands(ROWS * 120, 2));
    let ((k, wide_k), (v, wide_v)) = (operands(ROWS * 40, 3), operands(ROWS * 40, 4));
    let run = || attend(BlockProducts::FLOAT32, &shape, [&q, &k, &v, &d], None);
    let (out, lse, gradients) = run();
    let wide_out: Vec<f32> = out.iter().map(|x| x.to_f32()).collect();
    let wide = [&wide_q[..], &wide_k, &wide_v, &wide_d];
    let (exact, exact_lse, exact_gradients) = attend(BlockProducts::FLOAT32, &shape, wide, Some(&wide_out));
    assert_rounded(&out, &exact, "forward");
    assert_eq!(lse, exact_lse);
    for (found, exact) in gradients.iter().zip(&exact_gradients) {
        assert_rounded(found, exact, "a gradient");
    }
    let all = (out, lse, gradients);
    assert!(in_threads(1, run) == all && in_threads(3, run) == all, "threads change bits");
}

/// The largest difference, as a part of the largest number.
fn apart<'a>(found: impl IntoIterator<Item = &'a bf16>, exact: &[f32]) -> f32 {
    let size = exact.iter().fold(0.0, |size: f32, x| size.max(x.abs()));
    found.into_iter().zip(exact).fold(0.0, |largest: f32, (f, e)| largest.max((f.to_f32() - e).abs())) / size
}

/// Weights and the gradients of scores are rounded for the products that read them; scores are not, as their factors are exact.
#[rstest]
fn attention_by_tiles(#[values(None, Some(40))] window: Option<usize>, #[values(None, Some(1.5))] cap: Option<f32>) {
    let shape = attention_shape(window, cap);
    let ((q, wide_q), (d, wide_d)) = (operands(ROWS * 120, 1), operands(ROWS * 120, 2));
    let ((k, wide_k), (v, wide_v)) = (operands(ROWS * 40, 3), operands(ROWS * 40, 4));
    let wide = [&wide_q[..], &wide_k, &wide_v, &wide_d];
    let (exact, exact_lse, exact_gradients) = attend(BlockProducts::FLOAT32, &shape, wide, None);
    for products in BlockProducts::testable() {
        let run = || attend(products, &shape, [&q, &k, &v, &d], None);
        let (out, lse, gradients) = run();
        let of_lse = lse.iter().zip(&exact_lse).fold(0.0, |largest: f32, (f, e)| largest.max((f - e).abs()));
        let errors =
            [apart(&out, &exact)].into_iter().chain(gradients.iter().zip(&exact_gradients).map(|(f, e)| apart(f, e)));
        let errors: Vec<f32> = errors.collect();
        println!("{products:?}: lse {of_lse:.1e}, output and gradients {errors:?}");
        assert!(of_lse < 2e-6, "{products:?}: log-sum-exps are {of_lse} apart");
        assert!(errors.iter().all(|error| (1e-4..1.0 / 128.0).contains(error)), "{products:?}: {errors:?}");
        let all = (out, lse, gradients);
        assert!(in_threads(1, run) == all && in_threads(3, run) == all, "{products:?}: threads change bits");
        assert_eq!(BlockProducts::of::<f32>(), BlockProducts::FLOAT32, "float32 stays as it is");
    }
}

/// Hidden states and an output layer.
struct Scores<T> {
    hidden: Vec<T>,
    weight: Vec<T>,
    softcap: Option<f32>,
}

const WIDTH: usize = 24;
const VOCAB: usize = 1100;
const SCORED: usize = 140;

/// What a pass over the output layer gives: log-probs, gradients of hidden states and weight, and those of the one pass.
type Scored<T> = (Vec<TargetLogp>, Vec<T>, Vec<f32>, Vec<T>);

impl<T: Element> Scores<T> {
    /// Coefficients are of the log-probs; `forward` replaces the log-probs that the backward pass reads.
    fn run(&self, products: BlockProducts, forward: Option<&[TargetLogp]>) -> Scored<T> {
        let Self { hidden, weight, softcap } = self;
        let targets: Vec<u32> = (0..SCORED as u32).map(|row| row * 7 % VOCAB as u32).collect();
        let layer = OutputLayer { weight: &weight[..], width: WIDTH, softcap: *softcap };
        let logps = target_logps_by(products, hidden, layer, &targets);
        let (mut d, mut dw) = (vec![T::narrow(1.0); hidden.len()], vec![0.5; weight.len()]);
        let (forward, coefficients) = (forward.unwrap_or(&logps), &numbers(SCORED, 3));
        let rows = Panel { hidden, targets: &targets, forward, coefficients };
        target_logps_backward_by(products, layer, &rows, &mut d, Some(&mut dw));
        let (again, gradients) = target_logps_with_gradients_by(products, hidden, layer, &targets);
        assert_eq!(again, logps);
        (logps, d, dw, gradients)
    }
}

fn scores(softcap: Option<f32>) -> (Scores<bf16>, Scores<f32>) {
    let ((hidden, wide_hidden), (weight, wide_weight)) = (operands(SCORED * WIDTH, 1), operands(VOCAB * WIDTH, 2));
    (Scores { hidden, weight, softcap }, Scores { hidden: wide_hidden, weight: wide_weight, softcap })
}

#[rstest]
fn log_probs_of_targets(#[values(None, Some(3.0))] softcap: Option<f32>) {
    let (narrow, wide) = scores(softcap);
    let run = || narrow.run(BlockProducts::FLOAT32, None);
    let (logps, d, dw, gradients) = run();
    let (exact_logps, exact, exact_dw, exact_gradients) = wide.run(BlockProducts::FLOAT32, None);
    assert_eq!(logps, exact_logps);
    assert_rounded(&d, &exact, "hidden states");
    assert!(dw == exact_dw, "the weight's gradient is float32");
    assert_rounded(&gradients, &exact_gradients, "in one pass");
    let all = (logps, d, dw, gradients);
    assert!(in_threads(1, run) == all && in_threads(3, run) == all, "threads change bits");
}

/// Gradients of logits are rounded for the products that read them; logits are not, as their factors are exact.
#[rstest]
fn log_probs_by_tiles(#[values(None, Some(3.0))] softcap: Option<f32>) {
    let (narrow, wide) = scores(softcap);
    let (exact_logps, exact, exact_dw, exact_gradients) = wide.run(BlockProducts::FLOAT32, None);
    for products in BlockProducts::testable() {
        let run = || narrow.run(products, Some(&exact_logps));
        let (logps, d, dw, gradients) = run();
        let of_logps =
            logps.iter().zip(&exact_logps).fold(0.0, |largest: f64, (f, e)| largest.max((f.logp - e.logp).abs()));
        assert!(of_logps < 2e-6, "{products:?}: log-probs are {of_logps} apart");
        let size = exact_dw.iter().fold(0.0, |size: f32, x| size.max((x - 0.5).abs()));
        let of_weight = dw.iter().zip(&exact_dw).fold(0.0, |largest: f32, (f, e)| largest.max((f - e).abs())) / size;
        let errors = [apart(&d, &exact), of_weight, apart(&gradients, &exact_gradients)];
        println!("{products:?}: log-probs {of_logps:.1e}, gradients {errors:?}");
        assert!(errors.iter().all(|error| (1e-5..1.0 / 128.0).contains(error)), "{products:?}: {errors:?}");
        let all = (logps, d, dw, gradients);
        assert!(in_threads(1, run) == all && in_threads(3, run) == all, "{products:?}: threads change bits");
    }
}
