//! The gated delta rule in chunks against the recurrence in float64.

use std::ops::Range;

use collimate_kernels::Segment;
use collimate_recurrent::{DeltaInputs, DeltaShape, delta_rule, delta_rule_backward, delta_states};
use rstest::rstest;

use crate::testing::{assert_close, in_threads, numbers};

/// Added to the square of a query's or key's length.
const LENGTH_EPS: f32 = 1e-6;

const ROWS: usize = 330;

/// A prompt of several chunks with three responses, a sequence of its own, and a short prompt with a response.
fn segments() -> Vec<Segment> {
    let segment = |context, rows| Segment { context, rows };
    vec![
        segment(0..0, 0..150),
        segment(0..150, 150..151),
        segment(0..150, 151..231),
        segment(0..150, 231..241),
        segment(0..0, 241..320),
        segment(0..0, 320..322),
        segment(320..322, 322..ROWS),
    ]
}

struct Case {
    qkv: Vec<f32>,
    decay: Vec<f32>,
    beta: Vec<f32>,
    d_out: Vec<f32>,
}

impl Case {
    fn new(shape: DeltaShape, strongest: f32) -> Self {
        let gates = ROWS * shape.value_heads;
        Self {
            qkv: numbers(ROWS * shape.width(), 1),
            decay: numbers(gates, 2).iter().map(|x| strongest * (x - 1.0) / 2.0).collect(),
            beta: numbers(gates, 3).iter().map(|x| (x + 1.0) / 2.0).collect(),
            d_out: numbers(ROWS * shape.values_width(), 4),
        }
    }

    fn inputs(&self) -> DeltaInputs<'_> {
        DeltaInputs { qkv: &self.qkv, decay: &self.decay, beta: &self.beta }
    }
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

/// Columns of a value head's queries, keys and values.
fn columns(shape: &DeltaShape, head: usize) -> [Range<usize>; 3] {
    let key_head = head * shape.key_heads / shape.value_heads;
    let (query, key) = (key_head * shape.key_dim, (shape.key_heads + key_head) * shape.key_dim);
    let value = 2 * shape.keys_width() + head * shape.value_dim;
    [query..query + shape.key_dim, key..key + shape.key_dim, value..value + shape.value_dim]
}

/// The recurrence in float64, token by token: outputs of all rows.
fn recurrent(shape: &DeltaShape, qkv: &[f64], decay: &[f64], beta: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; ROWS * shape.values_width()];
    for head in 0..shape.value_heads {
        for segment in segments() {
            let mut state = vec![0.0; shape.key_dim * shape.value_dim];
            for row in segment.context.clone().chain(segment.rows.clone()) {
                let [q, k, v] = columns(shape, head).map(|columns| &qkv[row * shape.width()..][columns]);
                let unit = |x: &[f64]| {
                    let length = (x.iter().map(|x| x * x).sum::<f64>() + f64::from(LENGTH_EPS)).sqrt();
                    x.iter().map(|x| x / length).collect::<Vec<_>>()
                };
                let (q, k) = (unit(q), unit(k));
                let (g, b) = (decay[row * shape.value_heads + head], beta[row * shape.value_heads + head]);
                state.iter_mut().for_each(|s| *s *= g.exp());
                let of = |state: &[f64], x: &[f64], j: usize| -> f64 {
                    x.iter().enumerate().map(|(i, x)| x * state[i * shape.value_dim + j]).sum()
                };
                let change: Vec<f64> = (0..shape.value_dim).map(|j| b * (v[j] - of(&state, &k, j))).collect();
                for (i, k) in k.iter().enumerate() {
                    change.iter().enumerate().for_each(|(j, u)| state[i * shape.value_dim + j] += k * u);
                }
                for j in 0..shape.value_dim {
                    let at = row * shape.values_width() + head * shape.value_dim + j;
                    out[at] = of(&state, &q, j) / (shape.key_dim as f64).sqrt();
                }
            }
        }
    }
    out
}

fn shape(heads: [usize; 2], dims: [usize; 2]) -> DeltaShape {
    DeltaShape { key_heads: heads[0], value_heads: heads[1], key_dim: dims[0], value_dim: dims[1] }
}

#[rstest]
#[case(shape([1, 1], [8, 8]), 0.2)]
#[case(shape([2, 4], [16, 24]), 0.2)]
#[case(shape([1, 3], [7, 5]), 40.0)]
#[case(shape([1, 2], [12, 6]), 1e-4)]
fn outputs_are_those_of_the_recurrence(#[case] shape: DeltaShape, #[case] strongest: f32) {
    let case = Case::new(shape, strongest);
    let mut out = vec![0.0; ROWS * shape.values_width()];
    delta_rule(&shape, &segments(), case.inputs(), &mut out);
    assert_close(&out, &recurrent(&shape, &wide(&case.qkv), &wide(&case.decay), &wide(&case.beta)), 2e-6);
}

/// Every input's gradient against central differences of the recurrence in float64, at some of its numbers: at the ends of
/// segments and chunks, and in between.
#[rstest]
#[case(shape([1, 1], [8, 8]), 0.2)]
#[case(shape([1, 3], [7, 5]), 2.0)]
#[case(shape([1, 2], [12, 6]), 1e-4)]
fn gradients_are_those_of_the_recurrence(#[case] shape: DeltaShape, #[case] strongest: f32) {
    let case = Case::new(shape, strongest);
    let found = delta_rule_backward(&shape, &segments(), case.inputs(), &case.d_out);
    let start = [wide(&case.qkv), wide(&case.decay), wide(&case.beta)];
    let found = [found.qkv, found.decay, found.beta];
    let rows = [0, 1, 63, 64, 100, 149, 150, 151, 214, 215, 230, 231, 240, 241, 305, 319, 320, 321, 322, 329];
    for input in 0..3 {
        let width = start[input].len() / ROWS;
        let size = found[input].iter().fold(0.0f32, |size, x| size.max(x.abs()));
        for row in rows {
            for column in (0..width).step_by((width / 6).max(1)) {
                let at = row * width + column;
                let objective = |by: f64| {
                    let mut inputs = start.clone();
                    inputs[input][at] += by;
                    let [qkv, decay, beta] = &inputs;
                    let out = recurrent(&shape, qkv, decay, beta);
                    out.iter().zip(&case.d_out).map(|(out, &d)| out * f64::from(d)).sum::<f64>()
                };
                let expected = (objective(1e-5) - objective(-1e-5)) / 2e-5;
                let found = f64::from(found[input][at]);
                let tolerance = 3e-6 * f64::from(size) + 1e-6;
                assert!((found - expected).abs() < tolerance, "input {input}, row {row}: {found} against {expected}");
            }
        }
    }
}

#[test]
fn states_are_where_responses_go_on() {
    let shape = shape([2, 4], [16, 24]);
    let case = Case::new(shape, 0.2);
    let states = delta_states(&shape, &segments(), case.inputs());
    assert_eq!(states.len(), 3 * shape.state_len());
    // A token that corrects and decays nothing reads the state as it is.
    let mut more = Case::new(shape, 0.2);
    let heads = shape.value_heads;
    more.decay[150 * heads..151 * heads].fill(0.0);
    more.beta[150 * heads..151 * heads].fill(0.0);
    let mut out = vec![0.0; ROWS * shape.values_width()];
    delta_rule(&shape, &segments(), more.inputs(), &mut out);
    for head in 0..heads {
        let [columns, ..] = columns(&shape, head);
        let q = &more.qkv[150 * shape.width()..][columns];
        let length = (q.iter().map(|x| x * x).sum::<f32>() + LENGTH_EPS).sqrt() * (shape.key_dim as f32).sqrt();
        let state = &states[head * shape.key_dim * shape.value_dim..][..shape.key_dim * shape.value_dim];
        let expected = (0..shape.value_dim).map(|j| {
            q.iter().enumerate().map(|(i, q)| f64::from(q / length * state[i * shape.value_dim + j])).sum::<f64>()
        });
        let found = &out[150 * shape.values_width() + head * shape.value_dim..][..shape.value_dim];
        assert_close(found, &expected.collect::<Vec<_>>(), 2e-6);
    }
}

#[test]
fn neither_threads_nor_other_segments_change_a_row() {
    let shape = shape([2, 4], [16, 24]);
    let case = Case::new(shape, 0.2);
    let run = |threads: usize, segments: &[Segment]| {
        let rows = segments.iter().map(|segment| segment.rows.end).max().expect("rows");
        let inputs = DeltaInputs {
            qkv: &case.qkv[..rows * shape.width()],
            decay: &case.decay[..rows * shape.value_heads],
            beta: &case.beta[..rows * shape.value_heads],
        };
        let mut out = vec![0.0; rows * shape.values_width()];
        let d_out = &case.d_out[..out.len()];
        let gradients = in_threads(threads, || {
            delta_rule(&shape, segments, inputs, &mut out);
            delta_rule_backward(&shape, segments, inputs, d_out)
        });
        (out, gradients.qkv, gradients.decay, gradients.beta)
    };
    let all = run(1, &segments());
    assert!(all == run(2, &segments()) && all == run(3, &segments()));
    // A response is the same whatever other responses there are.
    let fewer = run(2, &segments()[..3]);
    assert!(fewer.0 == all.0[..fewer.0.len()]);
    assert_eq!(fewer.1[150 * shape.width()..], all.1[150 * shape.width()..231 * shape.width()]);
}
