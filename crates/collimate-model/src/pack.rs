//! A batch of token ids as the tensors that a forward pass reads.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use collimate_data::{GroupBatch, PackedResponse};

use crate::rope::Rope;

/// Added to scores that may not be attended to; its exponential is exactly zero in every float type.
const MASKED: f32 = -3.0e4;

/// Tensors of a pack of sequences: tokens, rotary tables, and for each span who may attend to whom.
pub(crate) struct Pack<B: Backend> {
    pub(crate) tokens: Tensor<B, 1, Int>,
    /// [N, 1, head_dim / 2].
    pub(crate) cos: Tensor<B, 3>,
    /// [N, 1, head_dim / 2].
    pub(crate) sin: Tensor<B, 3>,
    /// Tokens that attend among themselves only.
    pub(crate) spans: Vec<Range<usize>>,
    /// Additive masks [1, n, n] of every span, by the layers' window.
    masks: BTreeMap<Option<usize>, Vec<Tensor<B, 3>>>,
}

impl<B: Backend> Pack<B> {
    pub(crate) fn new(batch: &GroupBatch, rope: &Rope, windows: &[Option<usize>], device: &B::Device) -> Self {
        let tokens: Vec<i32> = batch.tokens.iter().map(|&t| t as i32).collect();
        let (cos, sin) = rotary::<B>(rope, &batch.positions, device);
        let owners = owners(batch);
        let masks = windows.iter().map(|&window| {
            let spans = batch.spans.iter().map(|span| {
                let n = span.len();
                let mask = span_mask(span.clone(), &owners, &batch.positions, window);
                Tensor::from_data(TensorData::new(mask, [1, n, n]), device)
            });
            (window, spans.collect())
        });
        Self {
            tokens: Tensor::from_data(TensorData::new(tokens, [batch.tokens.len()]), device),
            cos,
            sin,
            spans: batch.spans.clone(),
            masks: masks.collect(),
        }
    }

    /// Masks of every span for a layer with this window, each [1, n, n].
    pub(crate) fn masks(&self, window: Option<usize>) -> &[Tensor<B, 3>] {
        &self.masks[&window]
    }
}

/// Cosines and sines of positions, each [N, 1, head_dim / 2].
pub(crate) fn rotary<B: Backend>(rope: &Rope, positions: &[u32], device: &B::Device) -> (Tensor<B, 3>, Tensor<B, 3>) {
    let (cos, sin) = rope.tables(positions);
    let n = positions.len();
    let tensor = |values: Vec<f32>| {
        let half = values.len() / n;
        Tensor::from_data(TensorData::new(values, [n, 1, half]), device)
    };
    (tensor(cos), tensor(sin))
}

/// The number of the response that a token belongs to; prompts belong to none.
fn owners(batch: &GroupBatch) -> Vec<Option<usize>> {
    let mut owners = vec![None; batch.tokens.len()];
    for (number, PackedResponse { tokens, .. }) in batch.responses().enumerate() {
        owners[tokens.clone()].fill(Some(number));
    }
    owners
}

/// Row i may see column j where j is not later, is of the prompt or of the same response, and within the window.
fn span_mask(span: Range<usize>, owners: &[Option<usize>], positions: &[u32], window: Option<usize>) -> Vec<f32> {
    let mut mask = Vec::with_capacity(span.len() * span.len());
    for i in span.clone() {
        mask.extend(span.clone().map(|j| {
            let related = owners[j].is_none() || owners[j] == owners[i];
            let near = window.is_none_or(|w| positions[i] < positions[j] + w as u32);
            if j <= i && related && near { 0.0 } else { MASKED }
        }));
    }
    mask
}
