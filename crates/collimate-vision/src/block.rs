//! A block: attention and a feed-forward layer, each after a norm and added to the stream.

use std::ops::Range;

use burn::tensor::Tensor;
use collimate_backend::{FusedOps, GateActivation, Rotary};

use crate::activations::{quick_gelu, quick_gelu_backward};
use crate::attention::{Qkv, Segments};
use crate::ids::{BlockIds, LinearIds};
use crate::linear::{Layers, Slots};

/// What all blocks of a pass read.
pub(crate) struct Places<'a, B: FusedOps> {
    pub(crate) rotary: &'a Rotary<B>,
    /// Patches that attend to each other in this block.
    pub(crate) segments: &'a [Range<usize>],
}

/// What a block's backward pass reads besides its input.
struct FirstHalf<B: FusedOps> {
    normed: Tensor<B, 2>,
    /// Rotated.
    qkv: Qkv<B>,
    attended: Tensor<B, 2>,
    /// The stream after attention.
    middle: Tensor<B, 2>,
}

impl<B: FusedOps> Layers<'_, B> {
    /// The block's output, [N, width].
    pub(crate) fn block(&self, ids: &BlockIds, x: &Tensor<B, 2>, places: &Places<'_, B>) -> Tensor<B, 2> {
        let middle = self.first_half(ids, x, places).middle;
        let normed = self.norm(ids.norms[1], &middle);
        let activated = self.inner(&ids.feed_forward, &normed).1;
        match ids.feed_forward.last() {
            Some(down) => self.linear(down, &activated, Some(middle)),
            None => middle,
        }
    }

    /// The gradient of the block's input, given that of its output; adds those of its parameters.
    pub(crate) fn block_backward(
        &self,
        ids: &BlockIds,
        x: &Tensor<B, 2>,
        dy: Tensor<B, 2>,
        places: &Places<'_, B>,
        slots: &mut Slots<'_, B>,
    ) -> Tensor<B, 2> {
        let FirstHalf { normed, qkv, attended, middle } = self.first_half(ids, x, places);
        let d_middle = self.feed_forward_backward(ids, &middle, dy, slots);
        let d_attended = self.linear_backward(&ids.proj, &attended, &d_middle, slots);
        let [d_q, d_k, d_v] = self.segments(places).backward(&qkv, &d_attended);
        let d_qkv = vec![B::rotate(d_q, places.rotary, true), B::rotate(d_k, places.rotary, true), d_v];
        let d_normed = self.linear_backward(&ids.qkv, &normed, &Tensor::cat(d_qkv, 1), slots);
        B::add(self.norm_backward(ids.norms[0], x, d_normed, slots), &d_middle)
    }

    fn segments<'p>(&self, places: &Places<'p, B>) -> Segments<'p> {
        let scale = 1.0 / (self.tower.head_dim() as f32).sqrt();
        Segments { ranges: places.segments, heads: self.tower.heads, scale }
    }

    fn first_half(&self, ids: &BlockIds, x: &Tensor<B, 2>, places: &Places<'_, B>) -> FirstHalf<B> {
        let width = self.tower.width;
        let normed = self.norm(ids.norms[0], x);
        let all = self.linear(&ids.qkv, &normed, None);
        let part = |number: usize| B::columns(&all, number * width..(number + 1) * width);
        let qkv = [B::rotate(part(0), places.rotary, false), B::rotate(part(1), places.rotary, false), part(2)];
        let attended = self.segments(places).attend(&qkv);
        let middle = self.linear(&ids.proj, &attended, Some(x.clone()));
        FirstHalf { normed, qkv, attended, middle }
    }

    /// The outputs of the layers before the last one of a feed-forward layer, and its input: the activation of these.
    fn inner(&self, layers: &[LinearIds], normed: &Tensor<B, 2>) -> (Vec<Tensor<B, 2>>, Tensor<B, 2>) {
        let first = &layers[..layers.len().saturating_sub(1)];
        let inner: Vec<Tensor<B, 2>> = first.iter().map(|layer| self.linear(layer, normed, None)).collect();
        let activated = match inner.as_slice() {
            [gate, up] => B::gated(GateActivation::Silu, gate, up),
            [only] => quick_gelu(only),
            _ => normed.clone(),
        };
        (inner, activated)
    }

    /// The gradient of the stream before a feed-forward layer.
    fn feed_forward_backward(
        &self,
        ids: &BlockIds,
        middle: &Tensor<B, 2>,
        dy: Tensor<B, 2>,
        slots: &mut Slots<'_, B>,
    ) -> Tensor<B, 2> {
        let normed = self.norm(ids.norms[1], middle);
        let (inner, activated) = self.inner(&ids.feed_forward, &normed);
        let Some((down, first)) = ids.feed_forward.split_last() else { return dy };
        let d_activated = self.linear_backward(down, &activated, &dy, slots);
        let d_inner = match <[Tensor<B, 2>; 2]>::try_from(inner) {
            Ok([gate, up]) => {
                let (d_gate, d_up) = B::gated_backward(GateActivation::Silu, gate, up, &d_activated);
                vec![d_gate, d_up]
            }
            Err(inner) => inner.iter().map(|only| quick_gelu_backward(only, d_activated.clone())).collect(),
        };
        let mut d_normed: Option<Tensor<B, 2>> = None;
        for (layer, d_inner) in first.iter().zip(d_inner) {
            let more = self.linear_backward(layer, &normed, &d_inner, slots);
            d_normed = Some(match d_normed {
                Some(sum) => B::add(sum, &more),
                None => more,
            });
        }
        match d_normed {
            Some(d_normed) => B::add(self.norm_backward(ids.norms[1], middle, d_normed, slots), &dy),
            None => dy,
        }
    }
}
