//! Log-probs of target tokens from hidden states, without ever holding all logits in memory.
//!
//! Logits are computed in tiles of [`BLOCK`] rows by [`SLICE`] tokens, reduced at once, and recomputed in the backward
//! pass.

mod backward;
mod slices;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub use self::backward::target_logps_backward;
#[cfg(test)]
pub(crate) use self::backward::{Panel, target_logps_backward_by};
use self::slices::{Hidden, Layer, Slice};
use crate::element::{Element, Start, in_float32};
use crate::gemm::{BlockProducts, Matrix};
use crate::simd::{dispatch, exp, max, sum_map};

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
/// Its memory beyond the inputs is bounded for any M and V. Products of bfloat16 numbers are exact, and summed in float32.
pub fn target_logps<T: Element>(hidden: &[T], layer: OutputLayer<'_, T>, targets: &[u32]) -> Vec<TargetLogp> {
    target_logps_by(BlockProducts::of::<T>(), hidden, layer, targets)
}

/// [`target_logps`] with these products.
pub(crate) fn target_logps_by<T: Element>(
    products: BlockProducts,
    hidden: &[T],
    layer: OutputLayer<'_, T>,
    targets: &[u32],
) -> Vec<TargetLogp> {
    let (layer, width) = (Layer::new(layer, products), layer.width);
    assert_eq!(hidden.len(), targets.len() * width, "one row of hidden states per target");
    let panels = hidden.chunks(panel_rows(width) * width).zip(targets.chunks(panel_rows(width)));
    panels.flat_map(|(hidden, targets)| layer.panel_logps(hidden, targets)).collect()
}

/// [`target_logps`], with the gradient of each row's log-prob with respect to that row, [M, D].
///
/// One pass with an online softmax, so that no logit is computed twice. If the weight is not trained, the backward pass
/// needs nothing else: the rows of the gradient of `Σ_m c[m] · logp[m]` are `c[m]` times these.
///
/// For bfloat16, the weights of the softmax are rounded to it where the processor multiplies it.
pub fn target_logps_with_gradients<T: Element>(
    hidden: &[T],
    layer: OutputLayer<'_, T>,
    targets: &[u32],
) -> (Vec<TargetLogp>, Vec<T>) {
    target_logps_with_gradients_by(BlockProducts::of::<T>(), hidden, layer, targets)
}

/// [`target_logps_with_gradients`] with these products.
pub(crate) fn target_logps_with_gradients_by<T: Element>(
    products: BlockProducts,
    hidden: &[T],
    layer: OutputLayer<'_, T>,
    targets: &[u32],
) -> (Vec<TargetLogp>, Vec<T>) {
    let (layer, width) = (Layer::new(layer, products), layer.width);
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

/// A task's buffers.
#[derive(Default)]
struct Scratch {
    /// Logits, [rows, slice].
    tile: Vec<f32>,
    /// A slice's rows of the weight in float32, if they are multiplied so and are not already.
    weight: Vec<f32>,
    /// The same, for the gradient of hidden states.
    rows: Vec<f32>,
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

impl<T: Element> Layer<'_, T> {
    fn panel_logps(&self, hidden: &[T], targets: &[u32]) -> Vec<TargetLogp> {
        let mut wide = Vec::new();
        let (hidden, vocab) = (self.hidden(hidden, &mut wide), self.vocab_size());
        let starts: Vec<usize> = (0..vocab).step_by(SLICE).collect();
        let slices: Vec<Vec<Partial>> = starts
            .par_iter()
            .map_init(Scratch::default, |Scratch { tile, weight, .. }, &start| {
                let slice = self.slice(start, vocab, weight);
                let blocks = targets.chunks(BLOCK).enumerate();
                blocks.flat_map(|(block, targets)| self.reduce_tile(&hidden, block, targets, &slice, tile)).collect()
            })
            .collect();
        (0..targets.len()).map(|row| merge(slices.iter().map(|slice| slice[row]))).collect()
    }

    fn reduce_tile(
        &self,
        hidden: &Hidden<'_>,
        block: usize,
        targets: &[u32],
        slice: &Slice<'_>,
        tile: &mut Vec<f32>,
    ) -> Vec<Partial> {
        self.logits(hidden, block, slice, tile);
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
        let (hidden, starts) = (self.hidden(hidden, &mut wide), self.parts());
        let parts: Vec<PartSums> =
            starts.par_iter().map(|&start| self.part_with_gradients(&hidden, targets, start)).collect();
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

    /// The sums of the part of the vocabulary from a token on, by an online softmax over its slices.
    fn part_with_gradients(&self, hidden: &Hidden<'_>, targets: &[u32], start: usize) -> PartSums {
        let (width, end) = (self.width, (start + self.part_tokens()).min(self.vocab_size()));
        let mut part_sums = PartSums {
            slices: Vec::new(),
            highest: vec![f32::MIN; targets.len()],
            sums: vec![0.0; targets.len() * width],
        };
        let Scratch { mut tile, mut weight, mut rows } = Scratch::default();
        let mut wide = Vec::new();
        for start in (start..end).step_by(SLICE) {
            let slice = self.slice(start, end, &mut weight);
            let slice_rows = self.slice_rows(&slice.tokens, &mut rows);
            let mut partials = Vec::with_capacity(targets.len());
            let running = part_sums.sums.chunks_mut(BLOCK * width).zip(part_sums.highest.chunks_mut(BLOCK));
            for ((block, targets), (sums, highest)) in targets.chunks(BLOCK).enumerate().zip(running) {
                let reduced = self.reduce_tile(hidden, block, targets, &slice, &mut tile);
                self.rescale(&reduced, highest, sums, &mut tile);
                let weights = Matrix::new(&tile[..], targets.len(), slice.tokens.len());
                let weights = self.products.left(weights, &mut wide);
                self.products.multiply_rows(sums, true, &weights, 0..targets.len(), &slice_rows);
                partials.extend(reduced);
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
