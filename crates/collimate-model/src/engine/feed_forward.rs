//! A block's feed-forward half, forward and backward: one gated layer, or a mixture of experts.

use burn::tensor::Tensor;
use collimate_backend::FusedOps;

use super::experts::Mixture;
use super::gated::Gated;
use super::{Addition, Engine, Gradients};
use crate::parameter_index::{FeedForwardIds, LayerIds};

/// What a feed-forward layer's backward pass reads besides its input.
pub(crate) enum FeedForward<B: FusedOps> {
    Dense {
        gated: Gated<B>,
        /// The layer's output, [N, D], if a norm follows it.
        out: Option<Tensor<B, 2>>,
    },
    Experts(Box<Mixture<B>>),
}

impl<B: FusedOps> Engine<'_, B> {
    /// The residual stream after the feed-forward layer, given that before it.
    pub(super) fn feed_forward(&self, layer: usize, middle: &Tensor<B, 2>) -> (Tensor<B, 2>, FeedForward<B>) {
        let (ids, what) = (&self.index.layers[layer], Addition::FeedForward(layer));
        let h = self.normed(middle, ids.feed_forward_norm);
        match &ids.feed_forward {
            FeedForwardIds::Dense { layer, norm } => {
                let (activated, mut gated) = self.gates(layer, &h);
                let added = self.add_linear(&layer.down, &activated, middle, *norm, what);
                gated.low_down = added.low;
                (added.sum, FeedForward::Dense { gated, out: added.unnormed })
            }
            FeedForwardIds::Experts(ids) => {
                let mut y = middle.clone();
                let mixture = self.mixture(ids, &h, Some(&mut y));
                (y, FeedForward::Experts(Box::new(mixture)))
            }
        }
    }

    /// Recomputes what the backward pass reads; skips the last product if nothing reads it.
    pub(super) fn feed_forward_again(&self, ids: &LayerIds, middle: &Tensor<B, 2>) -> FeedForward<B> {
        let h = self.normed(middle, ids.feed_forward_norm);
        match &ids.feed_forward {
            FeedForwardIds::Dense { layer, norm } => {
                let (activated, mut gated) = self.gates(layer, &h);
                let out = match norm {
                    Some(_) => {
                        let (out, low_down) = self.linear(&layer.down, &activated, None);
                        gated.low_down = low_down;
                        Some(out)
                    }
                    None => {
                        gated.low_down = self.low(&layer.down, &activated);
                        None
                    }
                };
                FeedForward::Dense { gated, out }
            }
            FeedForwardIds::Experts(ids) => FeedForward::Experts(Box::new(self.mixture(ids, &h, None))),
        }
    }

    /// The gradient of the residual stream before the feed-forward layer, given that of the stream after it.
    pub(super) fn feed_forward_backward(
        &self,
        layer: usize,
        middle: &Tensor<B, 2>,
        saved: FeedForward<B>,
        dy: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let ids = &self.index.layers[layer];
        let input = || self.normed(middle, ids.feed_forward_norm);
        let d_added = self.scaled_residual(self.thinned(dy.clone(), Addition::FeedForward(layer)));
        let d_h = match (&ids.feed_forward, saved) {
            (FeedForwardIds::Dense { layer, norm }, FeedForward::Dense { gated, out }) => {
                let d_out = match (out, norm) {
                    (Some(out), Some(norm)) => self.norm_backward(&out, *norm, d_added, gradients),
                    _ => d_added,
                };
                self.gated_backward(layer, gated, input, &d_out, gradients)
            }
            (FeedForwardIds::Experts(ids), FeedForward::Experts(mixture)) => {
                self.mixture_backward(ids, *mixture, &input(), &d_added, gradients)
            }
            _ => unreachable!("a layer's activations are of the layer's kind"),
        };
        let d_middle = match ids.feed_forward_norm {
            Some(norm) => self.norm_backward(middle, norm, d_h, gradients),
            None => d_h,
        };
        B::add(d_middle, &dy)
    }
}
