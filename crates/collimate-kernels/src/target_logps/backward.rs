//! The backward pass: recomputes logits tile by tile and turns them into gradients of hidden states and weight.

use std::ops::Range;

use rayon::prelude::*;

use super::slices::{Hidden, Layer};
use super::{BLOCK, OutputLayer, SLICE, Scratch, TargetLogp, panel_rows};
use crate::element::{Element, Start, in_float32};
use crate::gemm::{BlockProducts, Factor, Matrix};
use crate::simd::{dispatch, exp};

/// Rows that are computed together.
pub(crate) struct Panel<'a, T> {
    pub(crate) hidden: &'a [T],
    pub(crate) targets: &'a [u32],
    pub(crate) forward: &'a [TargetLogp],
    pub(crate) coefficients: &'a [f32],
}

/// The hidden states of a panel, ready for products.
struct Ready<'a> {
    hidden: Hidden<'a>,
    /// Each block for the gradient of the weight, if that is trained.
    blocks: Vec<Factor<'a>>,
}

/// Gradients of `Σ_m coefficients[m] · logp[m]`.
///
/// `d_hidden` [M, D] is overwritten; the weight's gradient, [V, D], is added to `d_weight` if given. `forward` is the
/// result of [`target_logps`](crate::target_logps). For bfloat16, gradients of logits are rounded to it where the processor
/// multiplies it.
pub fn target_logps_backward<T: Element>(
    hidden: &[T],
    layer: OutputLayer<'_, T>,
    targets: &[u32],
    forward: &[TargetLogp],
    coefficients: &[f32],
    d_hidden: &mut [T],
    d_weight: Option<&mut [f32]>,
) {
    let panel = Panel { hidden, targets, forward, coefficients };
    target_logps_backward_by(BlockProducts::of::<T>(), layer, &panel, d_hidden, d_weight);
}

/// [`target_logps_backward`] with these products.
pub(crate) fn target_logps_backward_by<T: Element>(
    products: BlockProducts,
    layer: OutputLayer<'_, T>,
    rows: &Panel<'_, T>,
    d_hidden: &mut [T],
    d_weight: Option<&mut [f32]>,
) {
    Layer::new(layer, products).backward(rows, d_hidden, d_weight);
}

impl<T: Element> Layer<'_, T> {
    fn backward(&self, all: &Panel<'_, T>, d_hidden: &mut [T], mut d_weight: Option<&mut [f32]>) {
        let (width, rows, count) = (self.width, panel_rows(self.width), all.targets.len());
        assert_eq!(all.hidden.len(), count * width, "one row of hidden states per target");
        assert!(all.forward.len() == count && all.coefficients.len() == count, "one coefficient per target");
        for (index, d_hidden) in d_hidden.chunks_mut(rows * width).enumerate() {
            let range = index * rows..(index * rows + rows).min(count);
            let panel = Panel {
                hidden: &all.hidden[range.start * width..range.end * width],
                targets: &all.targets[range.clone()],
                forward: &all.forward[range.clone()],
                coefficients: &all.coefficients[range],
            };
            self.panel_backward(&panel, d_hidden, d_weight.as_deref_mut());
        }
    }

    fn panel_backward(&self, panel: &Panel<'_, T>, d_hidden: &mut [T], d_weight: Option<&mut [f32]>) {
        let (starts, block) = (self.parts(), BLOCK * self.width);
        let mut wide = Vec::new();
        let mut wide_blocks = vec![Vec::new(); panel.targets.len().div_ceil(BLOCK)];
        let blocks = panel
            .hidden
            .chunks(block)
            .zip(&mut wide_blocks)
            .map(|(rows, wide)| self.products.right(Matrix::new(rows, rows.len() / self.width, self.width), wide));
        let ready = Ready {
            hidden: self.hidden(panel.hidden, &mut wide),
            blocks: if d_weight.is_some() { blocks.collect() } else { Vec::new() },
        };
        let partial = |&start: &usize, d_weight: Option<&mut [f32]>| self.part_backward(panel, &ready, start, d_weight);
        let partials: Vec<Vec<f32>> = match d_weight {
            Some(d_weight) => {
                let parts = d_weight.par_chunks_mut(self.part_tokens() * self.width);
                starts.par_iter().zip(parts).map(|(start, d_weight)| partial(start, Some(d_weight))).collect()
            }
            None => starts.par_iter().map(|start| partial(start, None)).collect(),
        };
        d_hidden.par_chunks_mut(block).enumerate().for_each(|(index, d_hidden)| {
            in_float32(d_hidden, Start::Zeros, |d_hidden| {
                for partial in &partials {
                    d_hidden.iter_mut().zip(&partial[index * block..]).for_each(|(sum, &part)| *sum += part);
                }
            });
        });
    }

    /// The partial gradient of the hidden states from the part of the vocabulary that begins with a token.
    fn part_backward(
        &self,
        panel: &Panel<'_, T>,
        ready: &Ready<'_>,
        first: usize,
        mut d_weight: Option<&mut [f32]>,
    ) -> Vec<f32> {
        let (width, end) = (self.width, (first + self.part_tokens()).min(self.vocab_size()));
        let mut d_hidden = vec![0.0; panel.hidden.len()];
        let Scratch { mut tile, mut weight, mut rows } = Scratch::default();
        let mut wide = Vec::new();
        for start in (first..end).step_by(SLICE) {
            let slice = self.slice(start, end, &mut weight);
            let slice_rows = self.slice_rows(&slice.tokens, &mut rows);
            let len = slice.tokens.len();
            for (block, d_hidden) in d_hidden.chunks_mut(BLOCK * width).enumerate() {
                let count = d_hidden.len() / width;
                self.logits(&ready.hidden, block, &slice, &mut tile);
                self.logits_backward(panel, block * BLOCK, &slice.tokens, &mut tile);
                let d_logits = self.products.left(Matrix::new(&tile[..], count, len), &mut wide);
                self.products.multiply_rows(d_hidden, true, &d_logits, 0..count, &slice_rows);
                if let Some(d_weight) = d_weight.as_deref_mut() {
                    let own = &mut d_weight[(start - first) * width..][..len * width];
                    let d_logits = self.products.left(Matrix::transpose_of(&tile[..], len, count), &mut wide);
                    self.products.multiply_rows(own, true, &d_logits, 0..len, &ready.blocks[block]);
                }
            }
        }
        d_hidden
    }

    /// Replaces logits by their gradients: d logp / d logits = onehot − softmax.
    fn logits_backward(&self, panel: &Panel<'_, T>, first: usize, slice: &Range<usize>, tile: &mut [f32]) {
        dispatch(
            #[inline(always)]
            || {
                for (row, logits) in tile.chunks_exact_mut(slice.len()).enumerate() {
                    let row = first + row;
                    let (log_sum_exp, c) = (panel.forward[row].log_sum_exp, panel.coefficients[row]);
                    // Rounded, it would scale all of a row's probabilities by up to 5e-7, which does not average out: what
                    // rounding takes away goes into the factor.
                    let lse = log_sum_exp as f32;
                    let share = (f64::from(c) * (f64::from(lse) - log_sum_exp).exp()) as f32;
                    let target = panel.targets[row] as usize;
                    let target_column = slice.contains(&target).then(|| target - slice.start);
                    let target_slope = target_column.map(|column| self.slope(logits[column]));
                    if self.softcap.is_some() {
                        for logit in logits.iter_mut() {
                            *logit = -share * exp(*logit - lse) * self.slope(*logit);
                        }
                    } else {
                        for logit in logits.iter_mut() {
                            *logit = -share * exp(*logit - lse);
                        }
                    }
                    if let (Some(column), Some(slope)) = (target_column, target_slope) {
                        logits[column] += c * slope;
                    }
                }
            },
        );
    }
}
