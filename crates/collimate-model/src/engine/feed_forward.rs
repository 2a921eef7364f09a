//! The gated feed-forward layer, forward and backward.

use burn::tensor::Tensor;
use collimate_backend::{FusedOps, GateActivation};
use collimate_hf::Activation;

use super::experts::Mixture;
use super::{Engine, Gradients, Low};
use crate::layout::{FeedForwardIds, GatedIds, LayerIds};

/// What the way back through a feed-forward layer reads besides its input.
pub(crate) enum FeedForward<B: FusedOps> {
    Dense {
        gated: Gated<B>,
        /// The layer's output, [N, D], where a norm follows it.
        out: Option<Tensor<B, 2>>,
    },
    Experts(Mixture<B>),
}

/// What the way back through a gated layer reads besides its input.
pub(crate) struct Gated<B: FusedOps> {
    pub(super) gate: Tensor<B, 2>,
    pub(super) up: Tensor<B, 2>,
    pub(super) lows: Vec<Low<B>>,
    pub(super) low_down: Low<B>,
}

impl<B: FusedOps> Engine<'_, B> {
    /// The stream after the feed-forward layer, given that before it.
    pub(super) fn feed_forward(&self, ids: &LayerIds, middle: &Tensor<B, 2>) -> (Tensor<B, 2>, FeedForward<B>) {
        let h = self.normed(middle, ids.feed_forward_norm);
        match &ids.feed_forward {
            FeedForwardIds::Dense { layer, norm } => {
                let (activated, mut gated) = self.gates(layer, &h);
                let (y, low_down, out) = self.added(&layer.down, &activated, middle, *norm);
                gated.low_down = low_down;
                (y, FeedForward::Dense { gated, out })
            }
            FeedForwardIds::Experts(ids) => {
                let mut y = middle.clone();
                let mixture = self.mixture(ids, &h, Some(&mut y));
                (y, FeedForward::Experts(mixture))
            }
        }
    }

    /// What the way back reads, once more; the last product is left out where nothing reads it.
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
            FeedForwardIds::Experts(ids) => FeedForward::Experts(self.mixture(ids, &h, None)),
        }
    }

    /// What a gated layer's last product multiplies, and what the way back reads but for that product's own.
    pub(super) fn gates(&self, ids: &GatedIds, h: &Tensor<B, 2>) -> (Tensor<B, 2>, Gated<B>) {
        let ([gate, up], lows) = self.joint(&ids.gate_up, h);
        let activated = B::gated(self.activation(), &gate, &up);
        (activated, Gated { gate, up, lows, low_down: None })
    }

    /// The gradient of the stream before the feed-forward layer, given that of the stream after it.
    pub(super) fn feed_forward_backward(
        &self,
        ids: &LayerIds,
        (middle, saved): (&Tensor<B, 2>, FeedForward<B>),
        dy: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let input = || self.normed(middle, ids.feed_forward_norm);
        let d_added = self.scaled_residual(dy.clone());
        let d_h = match (&ids.feed_forward, saved) {
            (FeedForwardIds::Dense { layer, norm }, FeedForward::Dense { gated, out }) => {
                let d_out = match (out, norm) {
                    (Some(out), Some(norm)) => self.norm_backward(&out, *norm, d_added, gradients),
                    _ => d_added,
                };
                self.gated_backward(layer, gated, input, &d_out, gradients)
            }
            (FeedForwardIds::Experts(ids), FeedForward::Experts(mixture)) => {
                self.mixture_backward(ids, mixture, &input(), &d_added, gradients)
            }
            _ => unreachable!("a layer's activations are of its own kind"),
        };
        let d_middle = match ids.feed_forward_norm {
            Some(norm) => self.norm_backward(middle, norm, d_h, gradients),
            None => d_h,
        };
        B::add(d_middle, &dy)
    }

    /// The gradient of a gated layer's input, given that of its output; `input` makes the input again.
    fn gated_backward(
        &self,
        ids: &GatedIds,
        saved: Gated<B>,
        input: impl FnOnce() -> Tensor<B, 2>,
        d_out: &Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let activated = B::gated(self.activation(), &saved.gate, &saved.up);
        let d_low = self.linear_gradients(&ids.down, &activated, d_out, &saved.low_down, gradients);
        drop(activated);
        let d_activated = self.linear_input_gradient(&ids.down, d_out, &d_low, None);
        self.gates_backward(ids, saved, input, d_activated, gradients)
    }

    /// The same, given the gradient of what the last product multiplies.
    pub(super) fn gates_backward(
        &self,
        ids: &GatedIds,
        saved: Gated<B>,
        input: impl FnOnce() -> Tensor<B, 2>,
        d_activated: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let Gated { gate, up, lows, .. } = saved;
        let (d_gate, d_up) = B::gated_backward(self.activation(), gate, up, &d_activated);
        drop(d_activated);
        let d_outputs = self.joint_gradients(&ids.gate_up, &input(), [d_gate, d_up], &lows, gradients);
        self.joint_input_gradient(&ids.gate_up, d_outputs)
    }

    pub(super) fn activation(&self) -> GateActivation {
        match self.config.hidden_act {
            Activation::Silu => GateActivation::Silu,
            Activation::Gelu => GateActivation::Gelu,
            Activation::GeluTanh => GateActivation::GeluTanh,
        }
    }
}
