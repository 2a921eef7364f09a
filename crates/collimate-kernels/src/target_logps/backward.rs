//! The backward pass: recomputes logits tile by tile and turns them into gradients of hidden states and weight.

use std::ops::Range;

use rayon::prelude::*;

use super::{BLOCK, OutputLayer, SLICE, Scratch, TargetLogp, panel_rows};
use crate::element::{Element, Start, in_float32, widened};
use crate::gemm::{Matrix, multiply_here};
use crate::simd::{dispatch, exp};

/// Rows that are computed together.
struct Panel<'a> {
    hidden: &'a [f32],
    targets: &'a [u32],
    forward: &'a [TargetLogp],
    coefficients: &'a [f32],
}

/// Gradients of `Σ_m coefficients[m] · logp[m]`.
///
/// `d_hidden` [M, D] is overwritten; the weight's gradient, [V, D], is added to `d_weight` if given. `forward` is the
/// result of [`target_logps`](crate::target_logps).
pub fn target_logps_backward<T: Element>(
    hidden: &[T],
    layer: OutputLayer<'_, T>,
    targets: &[u32],
    forward: &[TargetLogp],
    coefficients: &[f32],
    d_hidden: &mut [T],
    mut d_weight: Option<&mut [f32]>,
) {
    let width = layer.width;
    assert_eq!(hidden.len(), targets.len() * width, "one row of hidden states per target");
    assert!(forward.len() == targets.len() && coefficients.len() == targets.len(), "one coefficient per target");
    let (rows, mut wide) = (panel_rows(width), Vec::new());
    for (index, d_hidden) in d_hidden.chunks_mut(rows * width).enumerate() {
        let range = index * rows..(index * rows + rows).min(targets.len());
        let panel = Panel {
            hidden: widened(&hidden[range.start * width..range.end * width], &mut wide),
            targets: &targets[range.clone()],
            forward: &forward[range.clone()],
            coefficients: &coefficients[range],
        };
        layer.panel_backward(&panel, d_hidden, d_weight.as_deref_mut());
    }
}

impl<T: Element> OutputLayer<'_, T> {
    fn panel_backward(&self, panel: &Panel<'_>, d_hidden: &mut [T], d_weight: Option<&mut [f32]>) {
        let vocab = self.vocab_size();
        let part = self.part_tokens();
        let starts: Vec<usize> = (0..vocab).step_by(part).collect();
        let partial = |start: usize, d_weight: Option<&mut [f32]>| {
            self.part_backward(panel, start..(start + part).min(vocab), d_weight)
        };
        let partials: Vec<Vec<f32>> = match d_weight {
            Some(d_weight) => {
                let parts = d_weight.par_chunks_mut(part * self.width);
                starts.par_iter().zip(parts).map(|(&start, d_weight)| partial(start, Some(d_weight))).collect()
            }
            None => starts.par_iter().map(|&start| partial(start, None)).collect(),
        };
        d_hidden.par_chunks_mut(BLOCK * self.width).enumerate().for_each(|(block, d_hidden)| {
            let first = block * BLOCK * self.width;
            in_float32(d_hidden, Start::Zeros, |d_hidden| {
                for partial in &partials {
                    d_hidden.iter_mut().zip(&partial[first..]).for_each(|(sum, &part)| *sum += part);
                }
            });
        });
    }

    /// The partial gradient of the hidden states from one part of the vocabulary.
    fn part_backward(&self, panel: &Panel<'_>, part: Range<usize>, mut d_weight: Option<&mut [f32]>) -> Vec<f32> {
        let width = self.width;
        let mut d_hidden = vec![0.0; panel.hidden.len()];
        let Scratch { mut tile, weight: mut widened } = Scratch::default();
        for start in part.clone().step_by(SLICE) {
            let slice = self.slice(start..(start + SLICE).min(part.end), &mut widened);
            let len = slice.tokens.len();
            for (block, d_hidden) in d_hidden.chunks_mut(BLOCK * width).enumerate() {
                let rows = d_hidden.len() / width;
                let first = block * BLOCK;
                let hidden = &panel.hidden[first * width..(first + rows) * width];
                self.logits(hidden, &slice, &mut tile);
                self.logits_backward(panel, first, &slice.tokens, &mut tile);
                let d_logits = Matrix::new(&tile, rows, len);
                multiply_here(d_hidden, true, 1.0, d_logits, Matrix::new(slice.weight, len, width));
                if let Some(d_weight) = d_weight.as_deref_mut() {
                    let own = &mut d_weight[(start - part.start) * width..][..len * width];
                    let d_logits = Matrix::transpose_of(&tile, len, rows);
                    multiply_here(own, true, 1.0, d_logits, Matrix::new(hidden, rows, width));
                }
            }
        }
        d_hidden
    }

    /// Replaces logits by their gradients: d logp / d logits = onehot − softmax.
    fn logits_backward(&self, panel: &Panel<'_>, first: usize, slice: &Range<usize>, tile: &mut [f32]) {
        dispatch(
            #[inline(always)]
            || {
                for (row, logits) in tile.chunks_exact_mut(slice.len()).enumerate() {
                    let row = first + row;
                    let (lse, c) = (panel.forward[row].log_sum_exp as f32, panel.coefficients[row]);
                    let target = panel.targets[row] as usize;
                    let target_column = slice.contains(&target).then(|| target - slice.start);
                    let target_slope = target_column.map(|column| self.slope(logits[column]));
                    if self.softcap.is_some() {
                        for logit in logits.iter_mut() {
                            *logit = -c * exp(*logit - lse) * self.slope(*logit);
                        }
                    } else {
                        for logit in logits.iter_mut() {
                            *logit = -c * exp(*logit - lse);
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
