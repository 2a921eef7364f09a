//! Log-probs of target tokens from hidden states, without ever holding all logits in memory.
//!
//! Logits are computed in tiles of [`BLOCK`] rows by [`SLICE`] tokens, reduced at once, and recomputed in the backward
//! pass.

mod backward;
#[cfg(test)]
mod tests;

use std::ops::Range;

use rayon::prelude::*;

pub use self::backward::target_logps_backward;
use crate::element::{Element, Start, in_float32, widened};
use crate::gemm::{Matrix, multiply_here};
use crate::simd::{dispatch, exp, max, sum_map, tanh};

/// Tokens per tile, few enough that their rows of the weight stay in cache for all rows of hidden states.
const SLICE: usize = 512;

/// Rows per tile.
const BLOCK: usize = 128;

/// Parts of the vocabulary, each with a partial gradient of the hidden states, whatever the number of threads.
const PARTS: usize = 16;

/// Elements of the hidden states per panel, so that partial results stay small.
const PANEL: usize = 1 << 19;

/// The log-prob of one target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetLogp {
    /// In nats.
    pub logp: f64,
    /// Log-sum-exp of the row's logits, which [`target_logps_backward`] reads.
    pub log_sum_exp: f64,
}

/// The output layer: logits are `hidden · weightᵀ`.
#[derive(Debug, Clone, Copy)]
pub struct OutputLayer<'a, T = f32> {
    /// [V, D].
    pub weight: &'a [T],
    /// D.
    pub width: usize,
    /// Squashes logits to `softcap · tanh(logit / softcap)`.
    pub softcap: Option<f32>,
}

/// Log-probs of `targets` \[M\] under the softmax of the layer's logits, where `hidden` is [M, D].
///
/// Its memory beyond the inputs is bounded for any M and V.
pub fn target_logps<T: Element>(hidden: &[T], layer: OutputLayer<'_, T>, targets: &[u32]) -> Vec<TargetLogp> {
    let width = layer.width;
    assert_eq!(hidden.len(), targets.len() * width, "one row of hidden states per target");
    let panels = hidden.chunks(panel_rows(width) * width).zip(targets.chunks(panel_rows(width)));
    panels.flat_map(|(hidden, targets)| layer.panel_logps(hidden, targets)).collect()
}

/// [`target_logps`], with the gradient of each row's log-prob with respect to that row, [M, D].
///
/// One pass with an online softmax, so that no logit is computed twice. If the weight is not trained, the backward pass
/// needs nothing else: the rows of the gradient of `Σ_m c[m] · logp[m]` are `c[m]` times these.
pub fn target_logps_with_gradients<T: Element>(
    hidden: &[T],
    layer: OutputLayer<'_, T>,
    targets: &[u32],
) -> (Vec<TargetLogp>, Vec<T>) {
    let width = layer.width;
    assert_eq!(hidden.len(), targets.len() * width, "one row of hidden states per target");
    let mut gradients = vec![T::default(); hidden.len()];
    let rows = panel_rows(width);
    let panels = hidden.chunks(rows * width).zip(targets.chunks(rows)).zip(gradients.chunks_mut(rows * width));
    let logps = panels.flat_map(|((hidden, targets), out)| layer.panel_with_gradients(hidden, targets, out)).collect();
    (logps, gradients)
}

fn panel_rows(width: usize) -> usize {
    (PANEL / width.max(1)).max(BLOCK)
}

/// One row's softmax over one slice of the vocabulary.
#[derive(Clone, Copy)]
struct Partial {
    highest: f32,
    /// Σ e^(logit − highest).
    total: f32,
    /// The target's logit, if the slice contains it.
    picked: Option<f32>,
}

/// A slice of the vocabulary, with its rows of the weight.
struct Slice<'a> {
    tokens: Range<usize>,
    weight: &'a [f32],
}

/// A task's buffers.
#[derive(Default)]
struct Scratch {
    /// Logits, [rows, slice].
    tile: Vec<f32>,
    /// A slice's rows of the weight, if they are not float32 already.
    weight: Vec<f32>,
}

/// A panel's softmax over one part of the vocabulary.
struct PartSums {
    /// By slice and row.
    slices: Vec<Vec<Partial>>,
    /// Each row's largest logit over the part.
    highest: Vec<f32>,
    /// `Σ e^(logit − highest) · weight`, [M, D].
    sums: Vec<f32>,
}

impl<T: Element> OutputLayer<'_, T> {
    fn vocab_size(&self) -> usize {
        self.weight.len() / self.width
    }

    fn panel_logps(&self, hidden: &[T], targets: &[u32]) -> Vec<TargetLogp> {
        let mut wide = Vec::new();
        let hidden = widened(hidden, &mut wide);
        let starts: Vec<usize> = (0..self.vocab_size()).step_by(SLICE).collect();
        let slices: Vec<Vec<Partial>> = starts
            .par_iter()
            .map_init(Scratch::default, |Scratch { tile, weight }, &start| {
                let slice = self.slice(start..(start + SLICE).min(self.vocab_size()), weight);
                let blocks = hidden.chunks(BLOCK * self.width).zip(targets.chunks(BLOCK));
                blocks.flat_map(|(hidden, targets)| self.reduce_tile(hidden, targets, &slice, tile)).collect()
            })
            .collect();
        (0..targets.len()).map(|row| merge(slices.iter().map(|slice| slice[row]))).collect()
    }

    /// A slice of the vocabulary; what is not float32 is widened into `scratch`.
    fn slice<'a>(&'a self, tokens: Range<usize>, scratch: &'a mut Vec<f32>) -> Slice<'a> {
        let weight = widened(&self.weight[tokens.start * self.width..tokens.end * self.width], scratch);
        Slice { tokens, weight }
    }

    /// Logits of a block of rows and a slice of the vocabulary, [rows, slice].
    fn logits(&self, hidden: &[f32], slice: &Slice<'_>, tile: &mut Vec<f32>) {
        let (rows, len) = (hidden.len() / self.width, slice.tokens.len());
        tile.resize(rows * len, 0.0);
        let (a, b) = (Matrix::new(hidden, rows, self.width), Matrix::transpose_of(slice.weight, self.width, len));
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

    fn reduce_tile(&self, hidden: &[f32], targets: &[u32], slice: &Slice<'_>, tile: &mut Vec<f32>) -> Vec<Partial> {
        self.logits(hidden, slice, tile);
        let tokens = &slice.tokens;
        dispatch(
            #[inline(always)]
            || {
                let mut partials = Vec::with_capacity(targets.len());
                for (logits, &target) in tile.chunks_exact(tokens.len()).zip(targets) {
                    let highest = max(logits);
                    let total = sum_map(
                        logits,
                        #[inline(always)]
                        |logit| exp(logit - highest),
                    );
                    let picked = tokens.contains(&(target as usize)).then(|| logits[target as usize - tokens.start]);
                    partials.push(Partial { highest, total, picked });
                }
                partials
            },
        )
    }

    fn panel_with_gradients(&self, hidden: &[T], targets: &[u32], gradients: &mut [T]) -> Vec<TargetLogp> {
        let mut wide = Vec::new();
        let hidden = widened(hidden, &mut wide);
        let vocab = self.vocab_size();
        let part = self.part_tokens();
        let starts: Vec<usize> = (0..vocab).step_by(part).collect();
        let sums = |&start: &usize| self.part_with_gradients(hidden, targets, start..(start + part).min(vocab));
        let parts: Vec<PartSums> = starts.par_iter().map(sums).collect();
        let slices = parts.iter().flat_map(|part| &part.slices);
        let logps: Vec<_> = (0..targets.len()).map(|row| merge(slices.clone().map(|slice| slice[row]))).collect();
        gradients.par_chunks_mut(self.width).enumerate().for_each(|(row, out)| {
            let TargetLogp { logp, log_sum_exp } = logps[row];
            let slope = self.slope((logp + log_sum_exp) as f32);
            let target = targets[row] as usize * self.width;
            in_float32(out, Start::Unread, |out| {
                out.iter_mut().zip(&self.weight[target..]).for_each(|(out, w)| *out = slope * w.widen());
                for part in &parts {
                    let share = (f64::from(part.highest[row]) - log_sum_exp).exp() as f32;
                    let sums = &part.sums[row * self.width..];
                    out.iter_mut().zip(sums).for_each(|(out, &sum)| *out -= share * sum);
                }
            });
        });
        logps
    }

    /// The sums of a part of the vocabulary, by an online softmax over its slices.
    fn part_with_gradients(&self, hidden: &[f32], targets: &[u32], part: Range<usize>) -> PartSums {
        let width = self.width;
        let mut part_sums =
            PartSums { slices: Vec::new(), highest: vec![f32::MIN; targets.len()], sums: vec![0.0; hidden.len()] };
        let Scratch { mut tile, weight: mut widened } = Scratch::default();
        for start in part.clone().step_by(SLICE) {
            let slice = self.slice(start..(start + SLICE).min(part.end), &mut widened);
            let mut partials = Vec::with_capacity(targets.len());
            let blocks = hidden.chunks(BLOCK * width).zip(targets.chunks(BLOCK));
            let running = part_sums.sums.chunks_mut(BLOCK * width).zip(part_sums.highest.chunks_mut(BLOCK));
            for ((hidden, targets), (sums, highest)) in blocks.zip(running) {
                let block = self.reduce_tile(hidden, targets, &slice, &mut tile);
                self.rescale(&block, highest, sums, &mut tile);
                let len = slice.tokens.len();
                let weights = Matrix::new(&tile, targets.len(), len);
                multiply_here(sums, true, 1.0, weights, Matrix::new(slice.weight, len, width));
                partials.extend(block);
            }
            part_sums.slices.push(partials);
        }
        part_sums
    }

    /// Replaces logits by their weights relative to the new running maximum, and rescales earlier sums to it.
    fn rescale(&self, partials: &[Partial], highest: &mut [f32], sums: &mut [f32], tile: &mut [f32]) {
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

    /// Tokens per part: whole slices, so that a token's gradient does not depend on where parts end.
    fn part_tokens(&self) -> usize {
        self.vocab_size().div_ceil(SLICE).div_ceil(PARTS).max(1) * SLICE
    }

    /// Derivative of the softcap, given the capped logit.
    #[inline(always)]
    fn slope(&self, logit: f32) -> f32 {
        self.softcap.map_or(1.0, |cap| 1.0 - (logit / cap) * (logit / cap))
    }
}

/// Combines one row's slices, always in the same order.
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
