use rstest::rstest;

use super::*;
use crate::testing::{assert_close, in_threads, numbers};

/// A pack of groups, each a prompt and the lengths of its responses; without a prompt, responses are independent.
fn pack(groups: &[(usize, &[usize])]) -> (Vec<Segment>, usize) {
    let (mut segments, mut rows) = (Vec::new(), 0);
    let mut take = |len: usize| {
        rows += len;
        rows - len..rows
    };
    for &(prompt, responses) in groups {
        let context = take(prompt);
        if prompt > 0 {
            segments.push(Segment { context: 0..0, rows: context.clone() });
        }
        segments.extend(responses.iter().map(|&len| Segment { context: context.clone(), rows: take(len) }));
    }
    (segments, rows)
}

struct Case {
    shape: AttentionShape,
    segments: Vec<Segment>,
    rows: usize,
    inputs: [Vec<f32>; 4],
}

impl Case {
    fn new(shape: AttentionShape, groups: &[(usize, &[usize])]) -> Self {
        let (segments, rows) = pack(groups);
        let (wide, narrow) = (rows * shape.query_width(), rows * shape.key_width());
        let scaled = |seed, len| numbers(len, seed).iter().map(|x| 2.0 * x).collect();
        let inputs = [scaled(1, wide), scaled(2, narrow), scaled(3, narrow), scaled(4, wide)];
        Self { shape, segments, rows, inputs }
    }

    /// Output, log-sum-exp, and the gradients of queries, keys and values.
    fn run(&self) -> [Vec<f32>; 5] {
        let [q, k, v, d_out] = &self.inputs;
        let (mut out, mut lse) = (vec![9.0; q.len()], vec![9.0; self.rows * self.shape.heads]);
        attention(&self.shape, &self.segments, q, k, v, &mut out, &mut lse);
        let (mut d_q, mut d_k, mut d_v) = (vec![9.0; q.len()], vec![9.0; k.len()], vec![9.0; v.len()]);
        let saved = AttentionSaved { q, k, v, out: &out, lse: &lse };
        attention_backward(&self.shape, &self.segments, saved, d_out, &mut d_q, &mut d_k, &mut d_v);
        [out, lse, d_q, d_k, d_v]
    }

    /// The same, computed in float64 one query and head at a time.
    fn expected(&self) -> [Vec<f64>; 5] {
        let AttentionShape { heads, kv_heads, head_dim: dim, window, softcap, .. } = self.shape;
        let scale = f64::from(self.shape.scale);
        let [q, k, v, d_out] = self.inputs.clone().map(|list| list.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
        let mut out = vec![0.0; q.len()];
        let mut lse = vec![0.0; self.rows * heads];
        let (mut d_q, mut d_k, mut d_v) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        for segment in &self.segments {
            for row in segment.rows.clone() {
                let sequence: Vec<usize> = segment.context.clone().chain(segment.rows.start..row + 1).collect();
                let seen = &sequence[window.map_or(0, |w| sequence.len().saturating_sub(w))..];
                for head in 0..heads {
                    let own = |i: usize| row * heads * dim + head * dim + i;
                    let of = |key: usize, i: usize| key * kv_heads * dim + head / (heads / kv_heads) * dim + i;
                    let raw = |key: usize| scale * (0..dim).map(|i| q[own(i)] * k[of(key, i)]).sum::<f64>();
                    let cap = |s: f64| softcap.map_or(s, |c| f64::from(c) * (s / f64::from(c)).tanh());
                    let total: f64 = seen.iter().map(|&key| cap(raw(key)).exp()).sum();
                    lse[row * heads + head] = total.ln();
                    let weight = |key: usize| cap(raw(key)).exp() / total;
                    for &key in seen {
                        (0..dim).for_each(|i| out[own(i)] += weight(key) * v[of(key, i)]);
                    }
                    let delta: f64 = (0..dim).map(|i| d_out[own(i)] * out[own(i)]).sum();
                    for &key in seen {
                        let p = weight(key);
                        let d_p: f64 = (0..dim).map(|i| d_out[own(i)] * v[of(key, i)]).sum();
                        let slope = softcap.map_or(1.0, |c| 1.0 - (raw(key) / f64::from(c)).tanh().powi(2));
                        let d_s = p * (d_p - delta) * slope * scale;
                        for i in 0..dim {
                            d_v[of(key, i)] += p * d_out[own(i)];
                            d_q[own(i)] += d_s * k[of(key, i)];
                            d_k[of(key, i)] += d_s * q[own(i)];
                        }
                    }
                }
            }
        }
        [out, lse, d_q, d_k, d_v]
    }
}

fn shape(heads: usize, kv_heads: usize, head_dim: usize) -> AttentionShape {
    let scale = 1.0 / (head_dim as f32).sqrt();
    AttentionShape { heads, kv_heads, head_dim, scale, window: None, softcap: None }
}

#[rstest]
fn outputs_and_gradients_are_those_of_float64(
    #[values((3, 1, 8), (4, 4, 16), (6, 2, 10))] (heads, kv_heads, dim): (usize, usize, usize),
    #[values(
        &[(5, &[1, 3][..])],
        &[(0, &[1, 70][..]), (3, &[][..])],
        &[(150, &[90, 1, 130][..]), (40, &[7; 11][..])],
        &[(300, &[40, 40][..])],
    )]
    groups: &[(usize, &[usize])],
    #[values(None, Some(1), Some(6), Some(100))] window: Option<usize>,
    #[values(None, Some(1.5))] softcap: Option<f32>,
) {
    let case = Case::new(AttentionShape { window, softcap, ..shape(heads, kv_heads, dim) }, groups);
    let ([out, lse, d_q, d_k, d_v], [e_out, e_lse, e_q, e_k, e_v]) = (case.run(), case.expected());
    assert_close(&out, &e_out, 1e-5);
    assert_close(&lse, &e_lse, 1e-5);
    // Together, because those of queries and keys are zero where a query sees one key only.
    assert_close(&[d_q, d_k, d_v].concat(), &[e_q, e_k, e_v].concat(), 1e-5);
}

#[test]
fn threads_change_nothing() {
    let case = Case::new(shape(6, 3, 16), &[(200, &[30; 20]), (20, &[100, 3])]);
    let alone = in_threads(1, || case.run());
    assert!(in_threads(2, || case.run()) == alone && in_threads(5, || case.run()) == alone);
}

#[rstest]
fn a_group_does_not_depend_on_what_else_is_in_the_pack(#[values(None, Some(33))] window: Option<usize>) {
    let shape = AttentionShape { window, ..shape(6, 2, 64) };
    let together = Case::new(shape, &[(310, &[1, 2, 100]), (77, &[290, 65])]);
    let first = 310 + 1 + 2 + 100;
    let mut alone = Case::new(shape, &[(77, &[290, 65])]);
    for (list, all) in alone.inputs.iter_mut().zip(&together.inputs) {
        let width = list.len() / alone.rows;
        list.copy_from_slice(&all[first * width..]);
    }
    for (alone, all) in alone.run().iter().zip(&together.run()) {
        assert!(alone[..] == all[all.len() - alone.len()..]);
    }
}

#[test]
fn a_response_s_output_does_not_depend_on_its_siblings() {
    let together = Case::new(shape(6, 2, 64), &[(310, &[100, 2, 50])]);
    let mut alone = Case::new(shape(6, 2, 64), &[(310, &[100])]);
    for (list, all) in alone.inputs.iter_mut().zip(&together.inputs) {
        let len = list.len();
        list.copy_from_slice(&all[..len]);
    }
    let ([out, lse, d_q, ..], [all_out, all_lse, all_d_q, ..]) = (alone.run(), together.run());
    assert!(out[..] == all_out[..out.len()] && lse[..] == all_lse[..lse.len()] && d_q[..] == all_d_q[..d_q.len()]);
}

#[test]
#[should_panic(expected = "row 2 is in two segments")]
fn overlapping_segments_are_refused() {
    let mut case = Case::new(shape(1, 1, 4), &[(3, &[2])]);
    case.segments[1].rows = 2..5;
    case.run();
}
