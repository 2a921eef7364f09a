use rstest::rstest;

use super::*;
use crate::testing::{assert_close, in_threads, numbers};

struct Case {
    hidden: Vec<f32>,
    weight: Vec<f32>,
    targets: Vec<u32>,
    coefficients: Vec<f32>,
}

const WIDTH: usize = 24;

impl Case {
    fn layer(&self, softcap: Option<f32>) -> OutputLayer<'_> {
        OutputLayer { weight: &self.weight, width: WIDTH, softcap }
    }
}

fn case(rows: usize, vocab: usize) -> Case {
    let hidden = numbers(rows * WIDTH, 1).iter().map(|x| 3.0 * x).collect();
    let targets = (0..rows).map(|row| (row * 7919 % vocab) as u32).collect();
    Case { hidden, weight: numbers(vocab * WIDTH, 2), targets, coefficients: numbers(rows, 3) }
}

/// Log-probs and gradients in float64, by the definition.
fn expected(case: &Case, softcap: Option<f32>) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let vocab = case.weight.len() / WIDTH;
    let (mut logps, mut d_hidden, mut d_weight) = (Vec::new(), Vec::new(), vec![0.0; case.weight.len()]);
    for (row, hidden) in case.hidden.chunks(WIDTH).enumerate() {
        let dot = |w: &[f32]| w.iter().zip(hidden).map(|(&w, &h)| f64::from(w) * f64::from(h)).sum::<f64>();
        let raw: Vec<f64> = case.weight.chunks(WIDTH).map(dot).collect();
        let cap = |x: f64| softcap.map_or(x, |c| f64::from(c) * (x / f64::from(c)).tanh());
        let slope = |x: f64| softcap.map_or(1.0, |c| 1.0 - (x / f64::from(c)).tanh().powi(2));
        let total: f64 = raw.iter().map(|&x| cap(x).exp()).sum();
        let target = case.targets[row] as usize;
        logps.push(cap(raw[target]) - total.ln());
        let mut d_row = vec![0.0; WIDTH];
        for token in 0..vocab {
            let hit = if token == target { 1.0 } else { 0.0 };
            let d = f64::from(case.coefficients[row]) * (hit - cap(raw[token]).exp() / total) * slope(raw[token]);
            for i in 0..WIDTH {
                d_row[i] += d * f64::from(case.weight[token * WIDTH + i]);
                d_weight[token * WIDTH + i] += d * f64::from(hidden[i]);
            }
        }
        d_hidden.extend(d_row);
    }
    (logps, d_hidden, d_weight)
}

fn backward(case: &Case, softcap: Option<f32>, forward: &[TargetLogp], start: f32) -> (Vec<f32>, Vec<f32>) {
    let (mut d_hidden, mut d_weight) = (vec![9.0; case.hidden.len()], vec![start; case.weight.len()]);
    let Case { hidden, targets, coefficients, .. } = case;
    let d = Some(d_weight.as_mut_slice());
    target_logps_backward(hidden, case.layer(softcap), targets, forward, coefficients, &mut d_hidden, d);
    (d_hidden, d_weight)
}

#[rstest]
fn log_probs_and_gradients_are_those_of_float64(
    #[values((1, 700), (5, 3), (130, 1025), (300, 515), (7, 9001))] (rows, vocab): (usize, usize),
    #[values(None, Some(4.0))] softcap: Option<f32>,
) {
    let case = case(rows, vocab);
    let forward = target_logps(&case.hidden, case.layer(softcap), &case.targets);
    let (logps, d_hidden, d_weight) = expected(&case, softcap);
    for (found, expected) in forward.iter().zip(&logps) {
        assert!((found.logp - expected).abs() < 1e-5, "{} against {expected}", found.logp);
    }
    let (found_hidden, found_weight) = backward(&case, softcap, &forward, 0.0);
    assert_close(&found_hidden, &d_hidden, 1e-5);
    assert_close(&found_weight, &d_weight, 1e-5);
    let (same, added) = backward(&case, softcap, &forward, 1.0);
    assert_eq!(same, found_hidden);
    assert_close(&added, &d_weight.iter().map(|d| 1.0 + d).collect::<Vec<_>>(), 1e-5);
    let Case { hidden, targets, coefficients, .. } = &case;
    let layer = case.layer(softcap);
    let mut alone = vec![0.0; hidden.len()];
    target_logps_backward(hidden, layer, targets, &forward, coefficients, &mut alone, None);
    assert_eq!(alone, found_hidden, "without the weight's gradient");
    let (in_one, gradients) = target_logps_with_gradients(hidden, layer, targets);
    assert!(in_one == forward, "the same bits as a pass without gradients");
    let scaled = gradients.chunks(WIDTH).zip(coefficients).flat_map(|(row, c)| row.iter().map(move |d| c * d));
    assert_close(&scaled.collect::<Vec<_>>(), &d_hidden, 1e-5);
}

#[test]
fn neither_threads_nor_other_rows_change_a_row() {
    let case = case(300, 5000);
    let run = || {
        let forward = target_logps(&case.hidden, case.layer(None), &case.targets);
        let gradients = backward(&case, None, &forward, 0.0);
        (forward, gradients, target_logps_with_gradients(&case.hidden, case.layer(None), &case.targets))
    };
    let all = in_threads(1, run);
    assert!(in_threads(2, run) == all && in_threads(3, run) == all);
    for range in [0..1, 3..5, 100..270] {
        let hidden = &case.hidden[range.start * WIDTH..range.end * WIDTH];
        let part = target_logps(hidden, case.layer(None), &case.targets[range.clone()]);
        assert!(part == all.0[range.clone()], "rows {range:?}");
        let (part, d) = target_logps_with_gradients(hidden, case.layer(None), &case.targets[range.clone()]);
        assert!(part == all.0[range.clone()] && d == all.2.1[range.start * WIDTH..range.end * WIDTH], "{range:?}");
    }
}

#[test]
fn panels_are_computed_independently() {
    // More rows than a panel of this width holds.
    let width = PANEL / BLOCK;
    let rows = BLOCK + 3;
    let (hidden, weight) = (numbers(rows * width, 1), numbers(4 * width, 2));
    let targets: Vec<u32> = (0..rows).map(|row| row as u32 % 4).collect();
    let layer = OutputLayer { weight: &weight, width, softcap: None };
    let all = target_logps(&hidden, layer, &targets);
    let last = target_logps(&hidden[BLOCK * width..], layer, &targets[BLOCK..]);
    assert!(all.len() == rows && all[BLOCK..] == last);
    let mut d_hidden = vec![0.0; hidden.len()];
    target_logps_backward(&hidden, layer, &targets, &all, &vec![1.0; rows], &mut d_hidden, None);
    let mut d_last = vec![0.0; 3 * width];
    let ones = [1.0; 3];
    let tail = &hidden[BLOCK * width..];
    target_logps_backward(tail, layer, &targets[BLOCK..], &last, &ones, &mut d_last, None);
    assert!(d_hidden[BLOCK * width..] == d_last);
    let (_, gradients) = target_logps_with_gradients(&hidden, layer, &targets);
    assert_close(&gradients, &d_hidden.iter().map(|&d| f64::from(d)).collect::<Vec<_>>(), 1e-5);
}

/// The rows of the weight's gradient add up to the hidden state times c · (1 − Σ probabilities), which is 0. A rounded
/// log-sum-exp of 10 or so would leave up to 5e-7 of it.
#[test]
fn probabilities_add_up_to_one_where_the_log_sum_exp_is_large() {
    let mut case = case(1, 700);
    let mut worst = 0.0_f64;
    for step in 0..32 {
        // Logits around 9 or so, other ones each time.
        case.hidden = vec![1.0; WIDTH];
        case.weight = numbers(700 * WIDTH, 100 + step).iter().map(|x| 9.0 / WIDTH as f32 + 0.1 * x).collect();
        case.coefficients = vec![1.0];
        let forward = target_logps(&case.hidden, case.layer(None), &case.targets);
        let (_, d_weight) = backward(&case, None, &forward, 0.0);
        let sum: f64 = d_weight.chunks(WIDTH).map(|row| f64::from(row[0])).sum();
        worst = worst.max(sum.abs());
    }
    assert!(worst < 1.5e-7, "{worst}");
}
