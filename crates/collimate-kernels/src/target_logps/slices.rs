//! The output layer slice by slice, and the products of a slice: in float32, or by tiles for bfloat16.

use std::ops::Range;

use super::{BLOCK, OutputLayer, PARTS, SLICE};
use crate::element::Element;
use crate::gemm::{BlockProducts, Factor, Matrix};
use crate::simd::{dispatch, tanh};

/// An output layer and how its products are computed.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a, T> {
    pub(super) weight: &'a [T],
    pub(super) width: usize,
    pub(super) softcap: Option<f32>,
    pub(super) products: BlockProducts,
}

/// Hidden states of a panel, ready for products with the weight's transpose.
pub(super) struct Hidden<'a> {
    rows: Factor<'a>,
    count: usize,
}

/// A slice of the vocabulary, ready for products that give logits.
pub(super) struct Slice<'a> {
    pub(super) tokens: Range<usize>,
    weight: Factor<'a>,
}

impl<'a, T: Element> Layer<'a, T> {
    pub(super) fn new(layer: OutputLayer<'a, T>, products: BlockProducts) -> Self {
        let OutputLayer { weight, width, softcap } = layer;
        Self { weight, width, softcap, products }
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.weight.len() / self.width
    }

    /// Tokens per part: whole slices, so that a token's gradient does not depend on where parts end.
    pub(super) fn part_tokens(&self) -> usize {
        self.vocab_size().div_ceil(SLICE).div_ceil(PARTS).max(1) * SLICE
    }

    /// The first tokens of all parts.
    pub(super) fn parts(&self) -> Vec<usize> {
        (0..self.vocab_size()).step_by(self.part_tokens()).collect()
    }

    pub(super) fn hidden<'h>(&self, rows: &'h [T], scratch: &'h mut Vec<f32>) -> Hidden<'h> {
        let count = rows.len() / self.width;
        Hidden { rows: self.products.left(Matrix::new(rows, count, self.width), scratch), count }
    }

    /// The slice from a token on, at most up to another one.
    pub(super) fn slice<'s>(&'s self, start: usize, end: usize, scratch: &'s mut Vec<f32>) -> Slice<'s> {
        let tokens = start..(start + SLICE).min(end);
        let weight = Matrix::transpose_of(self.rows(&tokens), self.width, tokens.len());
        Slice { weight: self.products.right(weight, scratch), tokens }
    }

    /// A slice, ready for products that give gradients of hidden states.
    pub(super) fn slice_rows<'s>(&'s self, tokens: &Range<usize>, scratch: &'s mut Vec<f32>) -> Factor<'s> {
        self.products.right(Matrix::new(self.rows(tokens), tokens.len(), self.width), scratch)
    }

    fn rows(&self, tokens: &Range<usize>) -> &'a [T] {
        &self.weight[tokens.start * self.width..tokens.end * self.width]
    }

    /// Logits of a block of rows and a slice of the vocabulary, [rows, slice].
    pub(super) fn logits(&self, hidden: &Hidden<'_>, block: usize, slice: &Slice<'_>, tile: &mut Vec<f32>) {
        let rows = block * BLOCK..((block + 1) * BLOCK).min(hidden.count);
        tile.resize(rows.len() * slice.tokens.len(), 0.0);
        self.products.multiply_rows(tile, false, &hidden.rows, rows, &slice.weight);
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

    /// Derivative of the softcap, given the capped logit.
    #[inline(always)]
    pub(super) fn slope(&self, logit: f32) -> f32 {
        self.softcap.map_or(1.0, |cap| 1.0 - (logit / cap) * (logit / cap))
    }
}
