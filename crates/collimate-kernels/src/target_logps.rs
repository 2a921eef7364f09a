//! Log-probs of target tokens from hidden states, without ever holding all logits.
//!
//! Logits are made in tiles of [`BLOCK`] rows by [`SLICE`] tokens, reduced at once, and made again on the way back.

use std::ops::Range;

use rayon::prelude::*;

use crate::gemm::{Matrix, multiply_here};
use crate::simd::{dispatch, exp, max, sum_map, tanh};

/// Tokens of a tile: its rows of the weight stay in cache for all rows of hidden states.
const SLICE: usize = 512;

/// Rows of a tile.
const BLOCK: usize = 128;

/// Parts of the vocabulary that gather a gradient of the hidden states each, whatever the number of threads.
const PARTS: usize = 16;

/// Numbers of the hidden states that are worked on at a time, so that partial results stay small.
const PANEL: usize = 1 << 19;

/// The log-prob of one target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetLogp {
    /// In nats.
    pub logp: f64,
    /// Log-sum-exp of the row's logits, which [`target_logps_backward`] reads.
    pub log_sum_exp: f64,
}

/// The output layer: weight [V, D], and the softcap of its logits.
#[derive(Clone, Copy)]
struct Head<'a> {
    weight: &'a [f32],
    width: usize,
    softcap: Option<f32>,
}

/// Log-probs of `targets` under `softmax(hidden · weightᵀ)`.
///
/// `hidden` is [M, D], `weight` [V, D], `targets` \[M\] below V. `softcap` squashes logits to `c · tanh(logit / c)`.
/// Memory beside the inputs is bounded whatever M and V.
pub fn target_logps(
    hidden: &[f32],
    weight: &[f32],
    width: usize,
    targets: &[u32],
    softcap: Option<f32>,
) -> Vec<TargetLogp> {
    assert_eq!(hidden.len(), targets.len() * width, "a row of hidden states for each target");
    let head = Head { weight, width, softcap };
    let panels = hidden.chunks(panel_rows(width) * width).zip(targets.chunks(panel_rows(width)));
    panels.flat_map(|(hidden, targets)| head.panel_logps(hidden, targets)).collect()
}

/// [`target_logps`], and the gradient of each row's log-prob with respect to that row, [M, D], in one pass.
///
/// The softmax is carried along as tiles go by, so that no logit is made twice. For a weight that is not trained this is
/// all that the way back needs: the gradient of `Σ_m c[m] · logp[m]` has the rows `c[m]` times these.
pub fn target_logps_with_gradients(
    hidden: &[f32],
    weight: &[f32],
    width: usize,
    targets: &[u32],
    softcap: Option<f32>,
) -> (Vec<TargetLogp>, Vec<f32>) {
    assert_eq!(hidden.len(), targets.len() * width, "a row of hidden states for each target");
    let head = Head { weight, width, softcap };
    let mut gradients = vec![0.0; hidden.len()];
    let rows = panel_rows(width);
    let panels = hidden.chunks(rows * width).zip(targets.chunks(rows)).zip(gradients.chunks_mut(rows * width));
    let logps = panels.flat_map(|((hidden, targets), out)| head.panel_with_gradients(hidden, targets, out)).collect();
    (logps, gradients)
}

/// Gradients of `Σ_m coefficients[m] · logp[m]`.
///
/// `d_hidden` [M, D] is overwritten; the weight's gradient, [V, D], is added to `d_weight` if given. `forward` is what
/// [`target_logps`] returned.
#[expect(clippy::too_many_arguments)] // each is a plain slice
pub fn target_logps_backward(
    hidden: &[f32],
    weight: &[f32],
    width: usize,
    targets: &[u32],
    softcap: Option<f32>,
    forward: &[TargetLogp],
    coefficients: &[f32],
    d_hidden: &mut [f32],
    mut d_weight: Option<&mut [f32]>,
) {
    assert_eq!(hidden.len(), targets.len() * width, "a row of hidden states for each target");
    assert!(forward.len() == targets.len() && coefficients.len() == targets.len(), "a coefficient for each target");
    let head = Head { weight, width, softcap };
    let rows = panel_rows(width);
    for (number, d_hidden) in d_hidden.chunks_mut(rows * width).enumerate() {
        let range = number * rows..(number * rows + rows).min(targets.len());
        let panel = Panel {
            hidden: &hidden[range.start * width..range.end * width],
            targets: &targets[range.clone()],
            forward: &forward[range.clone()],
            coefficients: &coefficients[range],
        };
        head.panel_backward(&panel, d_hidden, d_weight.as_deref_mut());
    }
}

fn panel_rows(width: usize) -> usize {
    (PANEL / width.max(1)).max(BLOCK)
}

/// What a slice of the vocabulary adds to one row.
#[derive(Clone, Copy)]
struct Partial {
    highest: f32,
    /// Σ e^(logit − highest).
    total: f32,
    /// The target's logit, where the slice holds it.
    picked: Option<f32>,
}

/// Rows that are gone back through together.
struct Panel<'a> {
    hidden: &'a [f32],
    targets: &'a [u32],
    forward: &'a [TargetLogp],
    coefficients: &'a [f32],
}

/// What a part of the vocabulary adds to all rows of a panel.
struct PartSums {
    /// By slice and row.
    slices: Vec<Vec<Partial>>,
    /// By row, over the part.
    highest: Vec<f32>,
    /// [M, D].
    sums: Vec<f32>,
}

impl Head<'_> {
    fn vocab_size(&self) -> usize {
        self.weight.len() / self.width
    }

    fn panel_logps(&self, hidden: &[f32], targets: &[u32]) -> Vec<TargetLogp> {
        let starts: Vec<usize> = (0..self.vocab_size()).step_by(SLICE).collect();
        let slices: Vec<Vec<Partial>> = starts
            .par_iter()
            .map_init(Vec::new, |tile, &start| {
                let slice = start..(start + SLICE).min(self.vocab_size());
                let blocks = hidden.chunks(BLOCK * self.width).zip(targets.chunks(BLOCK));
                blocks.flat_map(|(hidden, targets)| self.reduce_tile(hidden, targets, slice.clone(), tile)).collect()
            })
            .collect();
        (0..targets.len()).map(|row| merge(slices.iter().map(|slice| slice[row]))).collect()
    }

    /// Logits of some rows and a slice of the vocabulary, [rows, slice].
    fn logits(&self, hidden: &[f32], slice: &Range<usize>, tile: &mut Vec<f32>) {
        let rows = hidden.len() / self.width;
        tile.resize(rows * slice.len(), 0.0);
        let weight = &self.weight[slice.start * self.width..slice.end * self.width];
        let (a, b) = (Matrix::new(hidden, rows, self.width), Matrix::transpose_of(weight, self.width, slice.len()));
        multiply_here(tile, false, 1.0, a, b);
        if let Some(cap) = self.softcap {
            dispatch(
                #[inline(always)]
                || {
                    for logit in tile.iter_mut() {
                        *logit = cap * tanh(*logit / cap);
                    }
                },
            );
        }
    }

    fn reduce_tile(&self, hidden: &[f32], targets: &[u32], slice: Range<usize>, tile: &mut Vec<f32>) -> Vec<Partial> {
        self.logits(hidden, &slice, tile);
        dispatch(
            #[inline(always)]
            || {
                let mut partials = Vec::with_capacity(targets.len());
                for (logits, &target) in tile.chunks_exact(slice.len()).zip(targets) {
                    let highest = max(logits);
                    let total = sum_map(
                        logits,
                        #[inline(always)]
                        |logit| exp(logit - highest),
                    );
                    let picked = slice.contains(&(target as usize)).then(|| logits[target as usize - slice.start]);
                    partials.push(Partial { highest, total, picked });
                }
                partials
            },
        )
    }

    fn panel_with_gradients(&self, hidden: &[f32], targets: &[u32], gradients: &mut [f32]) -> Vec<TargetLogp> {
        let vocab = self.vocab_size();
        let part = self.part_tokens();
        let starts: Vec<usize> = (0..vocab).step_by(part).collect();
        let of_part = |&start: &usize| self.part_with_gradients(hidden, targets, start..(start + part).min(vocab));
        let parts: Vec<PartSums> = starts.par_iter().map(of_part).collect();
        let slices = parts.iter().flat_map(|part| &part.slices);
        let logps: Vec<_> = (0..targets.len()).map(|row| merge(slices.clone().map(|slice| slice[row]))).collect();
        gradients.par_chunks_mut(self.width).enumerate().for_each(|(row, out)| {
            let TargetLogp { logp, log_sum_exp } = logps[row];
            let slope = self.slope((logp + log_sum_exp) as f32);
            let target = targets[row] as usize * self.width;
            out.iter_mut().zip(&self.weight[target..]).for_each(|(out, &w)| *out = slope * w);
            for part in &parts {
                let share = (f64::from(part.highest[row]) - log_sum_exp).exp() as f32;
                let sums = &part.sums[row * self.width..];
                out.iter_mut().zip(sums).for_each(|(out, &sum)| *out -= share * sum);
            }
        });
        logps
    }

    /// `Σ e^(logit − highest) · weight` of each row over a part of the vocabulary, `highest` growing as slices go by.
    fn part_with_gradients(&self, hidden: &[f32], targets: &[u32], part: Range<usize>) -> PartSums {
        let width = self.width;
        let mut found =
            PartSums { slices: Vec::new(), highest: vec![f32::MIN; targets.len()], sums: vec![0.0; hidden.len()] };
        let mut tile = Vec::new();
        for start in part.clone().step_by(SLICE) {
            let slice = start..(start + SLICE).min(part.end);
            let weight = &self.weight[slice.start * width..slice.end * width];
            let mut partials = Vec::with_capacity(targets.len());
            let blocks = hidden.chunks(BLOCK * width).zip(targets.chunks(BLOCK));
            let carried = found.sums.chunks_mut(BLOCK * width).zip(found.highest.chunks_mut(BLOCK));
            for ((hidden, targets), (sums, highest)) in blocks.zip(carried) {
                let of_block = self.reduce_tile(hidden, targets, slice.clone(), &mut tile);
                self.carry(&of_block, highest, sums, &mut tile);
                let weights = Matrix::new(&tile, targets.len(), slice.len());
                multiply_here(sums, true, 1.0, weights, Matrix::new(weight, slice.len(), width));
                partials.extend(of_block);
            }
            found.slices.push(partials);
        }
        found
    }

    /// Replaces logits by what they weigh beside the highest so far, and brings the sums so far to the same measure.
    fn carry(&self, partials: &[Partial], highest: &mut [f32], sums: &mut [f32], tile: &mut [f32]) {
        let slice = tile.len() / partials.len().max(1);
        dispatch(
            #[inline(always)]
            || {
                for (row, logits) in tile.chunks_exact_mut(slice).enumerate() {
                    let new = highest[row].max(partials[row].highest);
                    if new > highest[row] {
                        let factor = exp(highest[row] - new);
                        for sum in &mut sums[row * self.width..(row + 1) * self.width] {
                            *sum *= factor;
                        }
                        highest[row] = new;
                    }
                    if self.softcap.is_some() {
                        for logit in logits.iter_mut() {
                            *logit = exp(*logit - new) * self.slope(*logit);
                        }
                    } else {
                        for logit in logits.iter_mut() {
                            *logit = exp(*logit - new);
                        }
                    }
                }
            },
        );
    }

    /// Tokens of a part of the vocabulary: whole slices, so that a token's gradient does not depend on where parts end.
    fn part_tokens(&self) -> usize {
        self.vocab_size().div_ceil(SLICE).div_ceil(PARTS).max(1) * SLICE
    }

    fn panel_backward(&self, panel: &Panel<'_>, d_hidden: &mut [f32], d_weight: Option<&mut [f32]>) {
        let vocab = self.vocab_size();
        let part = self.part_tokens();
        let starts: Vec<usize> = (0..vocab).step_by(part).collect();
        let of_part = |start: usize, d_weight: Option<&mut [f32]>| {
            self.part_backward(panel, start..(start + part).min(vocab), d_weight)
        };
        let gathered: Vec<Vec<f32>> = match d_weight {
            Some(d_weight) => {
                let owned = d_weight.par_chunks_mut(part * self.width);
                starts.par_iter().zip(owned).map(|(&start, d_weight)| of_part(start, Some(d_weight))).collect()
            }
            None => starts.par_iter().map(|&start| of_part(start, None)).collect(),
        };
        d_hidden.par_chunks_mut(BLOCK * self.width).enumerate().for_each(|(block, d_hidden)| {
            let first = block * BLOCK * self.width;
            d_hidden.fill(0.0);
            for part in &gathered {
                d_hidden.iter_mut().zip(&part[first..]).for_each(|(sum, &part)| *sum += part);
            }
        });
    }

    /// The gradient of the hidden states that comes through a part of the vocabulary.
    fn part_backward(&self, panel: &Panel<'_>, part: Range<usize>, mut d_weight: Option<&mut [f32]>) -> Vec<f32> {
        let width = self.width;
        let mut d_hidden = vec![0.0; panel.hidden.len()];
        let mut tile = Vec::new();
        for start in part.clone().step_by(SLICE) {
            let slice = start..(start + SLICE).min(part.end);
            let weight = &self.weight[slice.start * width..slice.end * width];
            for (block, d_hidden) in d_hidden.chunks_mut(BLOCK * width).enumerate() {
                let rows = d_hidden.len() / width;
                let first = block * BLOCK;
                let hidden = &panel.hidden[first * width..(first + rows) * width];
                self.logits(hidden, &slice, &mut tile);
                self.push_back(panel, first, &slice, &mut tile);
                let pushed = Matrix::new(&tile, rows, slice.len());
                multiply_here(d_hidden, true, 1.0, pushed, Matrix::new(weight, slice.len(), width));
                if let Some(d_weight) = d_weight.as_deref_mut() {
                    let own = &mut d_weight[(slice.start - part.start) * width..(slice.end - part.start) * width];
                    let pushed = Matrix::transpose_of(&tile, slice.len(), rows);
                    multiply_here(own, true, 1.0, pushed, Matrix::new(hidden, rows, width));
                }
            }
        }
        d_hidden
    }

    /// Replaces logits by their gradients: d logp / d logits = onehot − softmax.
    fn push_back(&self, panel: &Panel<'_>, first: usize, slice: &Range<usize>, tile: &mut [f32]) {
        dispatch(
            #[inline(always)]
            || {
                for (row, logits) in tile.chunks_exact_mut(slice.len()).enumerate() {
                    let row = first + row;
                    let (lse, c) = (panel.forward[row].log_sum_exp as f32, panel.coefficients[row]);
                    let target = panel.targets[row] as usize;
                    let own = slice.contains(&target).then(|| target - slice.start);
                    let slope_there = own.map(|at| self.slope(logits[at]));
                    if self.softcap.is_some() {
                        for logit in logits.iter_mut() {
                            *logit = -c * exp(*logit - lse) * self.slope(*logit);
                        }
                    } else {
                        for logit in logits.iter_mut() {
                            *logit = -c * exp(*logit - lse);
                        }
                    }
                    if let (Some(at), Some(slope)) = (own, slope_there) {
                        logits[at] += c * slope;
                    }
                }
            },
        );
    }

    /// Derivative of the softcap, from what it gave.
    #[inline(always)]
    fn slope(&self, logit: f32) -> f32 {
        self.softcap.map_or(1.0, |cap| 1.0 - (logit / cap) * (logit / cap))
    }
}

/// One row over all slices, always in their order.
fn merge(slices: impl Iterator<Item = Partial> + Clone) -> TargetLogp {
    let highest = slices.clone().fold(f32::MIN, |highest, slice| highest.max(slice.highest));
    let mut total = 0.0;
    let mut picked = f64::NAN;
    for slice in slices {
        total += f64::from(slice.total) * f64::from(slice.highest - highest).exp();
        if let Some(logit) = slice.picked {
            picked = f64::from(logit);
        }
    }
    let log_sum_exp = f64::from(highest) + total.ln();
    TargetLogp { logp: picked - log_sum_exp, log_sum_exp }
}

#[cfg(test)]
mod tests {
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

    fn case(rows: usize, vocab: usize) -> Case {
        let hidden = numbers(rows * WIDTH, 1).iter().map(|x| 3.0 * x).collect();
        let targets = (0..rows).map(|row| (row * 7919 % vocab) as u32).collect();
        Case { hidden, weight: numbers(vocab * WIDTH, 2), targets, coefficients: numbers(rows, 3) }
    }

    /// Log-probs and gradients in float64, the plain way.
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
        let Case { hidden, weight, targets, coefficients } = case;
        let d = Some(d_weight.as_mut_slice());
        target_logps_backward(hidden, weight, WIDTH, targets, softcap, forward, coefficients, &mut d_hidden, d);
        (d_hidden, d_weight)
    }

    #[rstest]
    fn log_probs_and_gradients_are_those_of_float64(
        #[values((1, 700), (5, 3), (130, 1025), (300, 515), (7, 9001))] (rows, vocab): (usize, usize),
        #[values(None, Some(4.0))] softcap: Option<f32>,
    ) {
        let case = case(rows, vocab);
        let forward = target_logps(&case.hidden, &case.weight, WIDTH, &case.targets, softcap);
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
        let Case { hidden, weight, targets, coefficients } = &case;
        let mut alone = vec![0.0; hidden.len()];
        target_logps_backward(hidden, weight, WIDTH, targets, softcap, &forward, coefficients, &mut alone, None);
        assert_eq!(alone, found_hidden, "without the weight's gradient");
        let (in_one, gradients) = target_logps_with_gradients(hidden, weight, WIDTH, targets, softcap);
        assert!(in_one == forward, "the same bits as a pass without gradients");
        let scaled = gradients.chunks(WIDTH).zip(coefficients).flat_map(|(row, c)| row.iter().map(move |d| c * d));
        assert_close(&scaled.collect::<Vec<_>>(), &d_hidden, 1e-5);
    }

    #[test]
    fn neither_threads_nor_other_rows_change_a_row() {
        let case = case(300, 5000);
        let run = || {
            let forward = target_logps(&case.hidden, &case.weight, WIDTH, &case.targets, None);
            let gradients = backward(&case, None, &forward, 0.0);
            (forward, gradients, target_logps_with_gradients(&case.hidden, &case.weight, WIDTH, &case.targets, None))
        };
        let all = in_threads(1, run);
        assert!(in_threads(2, run) == all && in_threads(3, run) == all);
        for range in [0..1, 3..5, 100..270] {
            let hidden = &case.hidden[range.start * WIDTH..range.end * WIDTH];
            let part = target_logps(hidden, &case.weight, WIDTH, &case.targets[range.clone()], None);
            assert!(part == all.0[range.clone()], "rows {range:?}");
            let (part, d) =
                target_logps_with_gradients(hidden, &case.weight, WIDTH, &case.targets[range.clone()], None);
            assert!(part == all.0[range.clone()] && d == all.2.1[range.start * WIDTH..range.end * WIDTH], "{range:?}");
        }
    }

    #[test]
    fn panels_are_worked_on_one_after_the_other() {
        // More rows than a panel of this width holds.
        let width = PANEL / BLOCK;
        let rows = BLOCK + 3;
        let (hidden, weight) = (numbers(rows * width, 1), numbers(4 * width, 2));
        let targets: Vec<u32> = (0..rows).map(|row| row as u32 % 4).collect();
        let all = target_logps(&hidden, &weight, width, &targets, None);
        let last = target_logps(&hidden[BLOCK * width..], &weight, width, &targets[BLOCK..], None);
        assert!(all.len() == rows && all[BLOCK..] == last);
        let mut d_hidden = vec![0.0; hidden.len()];
        target_logps_backward(&hidden, &weight, width, &targets, None, &all, &vec![1.0; rows], &mut d_hidden, None);
        let mut d_last = vec![0.0; 3 * width];
        let ones = [1.0; 3];
        let tail = &hidden[BLOCK * width..];
        target_logps_backward(tail, &weight, width, &targets[BLOCK..], None, &last, &ones, &mut d_last, None);
        assert!(d_hidden[BLOCK * width..] == d_last);
        let (_, gradients) = target_logps_with_gradients(&hidden, &weight, width, &targets, None);
        assert_close(&gradients, &d_hidden.iter().map(|&d| f64::from(d)).collect::<Vec<_>>(), 1e-5);
    }
}
