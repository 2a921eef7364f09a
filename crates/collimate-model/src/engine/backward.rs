//! The way back through a block.

use burn::tensor::Tensor;
use collimate_backend::{AttentionSaved, FusedOps};

use super::{Activations, Engine, FeedForward, Gradients, PackInputs, Projections};

impl<B: FusedOps> Engine<'_, B> {
    /// Adds the gradients of a block's parameters, given that of its output; the gradient of its input where wanted.
    pub(crate) fn block_backward(
        &self,
        layer: usize,
        (x, activations): (&Tensor<B, 2>, Activations<B>),
        dy: Tensor<B, 2>,
        pack: &PackInputs<B>,
        wants_input: bool,
        gradients: &mut Gradients<'_, B>,
    ) -> Option<Tensor<B, 2>> {
        let ids = &self.layout.layers[layer];
        let shape = self.attention_shape(layer);
        let Activations { projections, attended, lse, low_o, feed_forward } = activations;
        let d_middle = self.feed_forward_backward(layer, feed_forward, dy, gradients);
        let d_low = self.linear_gradients(&ids.o, &attended, &d_middle, &low_o, gradients);
        let d_attended = self.linear_input_gradient(&ids.o, &d_middle, &d_low, None);
        let Projections { q, k, v, raw, lows: [low_q, low_k, low_v] } = projections;
        let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &attended, lse: &lse };
        let [d_q, d_k, d_v] = B::packed_attention_backward(&shape, &pack.plan, saved, &d_attended);
        drop((q, k, v, attended, d_attended));
        let (mut d_q, mut d_k) = (B::rotate(d_q, &pack.rotary, true), B::rotate(d_k, &pack.rotary, true));
        if let (Some((q, k)), Some(q_norm), Some(k_norm)) = (&raw, ids.q_norm, ids.k_norm) {
            d_q = self.norm_backward(q, q_norm, d_q, gradients);
            d_k = self.norm_backward(k, k_norm, d_k, gradients);
        }
        let h = self.norm(x, ids.input_norm);
        let low_q = self.linear_gradients(&ids.q, &h, &d_q, &low_q, gradients);
        let low_k = self.linear_gradients(&ids.k, &h, &d_k, &low_k, gradients);
        let low_v = self.linear_gradients(&ids.v, &h, &d_v, &low_v, gradients);
        if !wants_input && !gradients.trainable[ids.input_norm] {
            return None;
        }
        let d_h = self.linear_input_gradient(&ids.q, &d_q, &low_q, None);
        let d_h = self.linear_input_gradient(&ids.k, &d_k, &low_k, Some(d_h));
        let d_h = self.linear_input_gradient(&ids.v, &d_v, &low_v, Some(d_h));
        let d_x = self.norm_backward(x, ids.input_norm, d_h, gradients);
        Some(B::add(d_x, &d_middle))
    }

    /// The gradient of the stream after attention, given that of the block's output.
    fn feed_forward_backward(
        &self,
        layer: usize,
        saved: FeedForward<B>,
        dy: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let ids = &self.layout.layers[layer];
        let FeedForward { middle, gate, up, lows: [low_gate, low_up, low_down] } = saved;
        let activated = B::gated(self.activation(), &gate, &up);
        let d_low = self.linear_gradients(&ids.down, &activated, &dy, &low_down, gradients);
        drop(activated);
        let d_activated = self.linear_input_gradient(&ids.down, &dy, &d_low, None);
        let (d_gate, d_up) = B::gated_backward(self.activation(), gate, up, &d_activated);
        drop(d_activated);
        let h = self.norm(&middle, ids.post_norm);
        let low_gate = self.linear_gradients(&ids.gate, &h, &d_gate, &low_gate, gradients);
        let low_up = self.linear_gradients(&ids.up, &h, &d_up, &low_up, gradients);
        let d_h = self.linear_input_gradient(&ids.gate, &d_gate, &low_gate, None);
        let d_h = self.linear_input_gradient(&ids.up, &d_up, &low_up, Some(d_h));
        let d_middle = self.norm_backward(&middle, ids.post_norm, d_h, gradients);
        B::add(d_middle, &dy)
    }

    /// The gradient of a norm's input; adds that of its weight.
    pub(crate) fn norm_backward(
        &self,
        x: &Tensor<B, 2>,
        weight: usize,
        d_out: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        B::rms_norm_backward(x, &self.params[weight], self.config.rms_norm_eps, d_out, gradients.of(weight))
    }
}
