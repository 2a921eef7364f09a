//! The backward pass of a block.

use burn::tensor::Tensor;
use collimate_backend::{AttentionMap, AttentionSaved, FusedOps};

use super::{Activations, Attended, Engine, Gradients, PackInputs, Projections, SecondHalf, attention_shape, scaled};

impl<B: FusedOps> Engine<'_, B> {
    /// Adds the gradients of a block's parameters, given that of its output; returns that of its input if needed.
    pub(crate) fn block_backward(
        &self,
        layer: usize,
        activations: Activations<B>,
        dy: Tensor<B, 2>,
        pack: &PackInputs<B>,
        wants_input: bool,
        gradients: &mut Gradients<'_, B>,
    ) -> Option<Tensor<B, 2>> {
        let ids = &self.index.layers[layer];
        let Activations { input, projections, attention, second } = activations;
        let (d_middle, d_attended) = self.second_half_backward(layer, &attention.out, second, dy, gradients);
        let Projections { q, k, v, unnormed, lows } = projections;
        let Attended { out, lse } = attention;
        let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
        let shape = attention_shape(self.config, layer);
        let [d_q, d_k, d_v] = pack.attention.attend_backward(&shape, saved, &d_attended);
        drop((q, k, v, out, d_attended));
        let [mut d_q, mut d_k] = [d_q, d_k].map(|d| self.rotated(layer, d, &pack.rotary, true));
        if let (Some((q, k)), Some(q_norm), Some(k_norm)) = (&unnormed, ids.q_norm, ids.k_norm) {
            d_q = self.norm_backward(q, q_norm, d_q, gradients);
            d_k = self.norm_backward(k, k_norm, d_k, gradients);
        }
        let before = ids.attention_norms.before;
        let h = self.normed(&input, before);
        let d_outputs = self.joint_gradients(&ids.qkv, &h, [d_q, d_k, d_v], &lows, gradients);
        if !wants_input && !before.is_some_and(|norm| gradients.trainable[norm]) {
            return None;
        }
        let d_h = self.joint_input_gradient(&ids.qkv, d_outputs);
        let d_x = match before {
            Some(norm) => self.norm_backward(&input, norm, d_h, gradients),
            None => d_h,
        };
        Some(B::add(d_x, &d_middle))
    }

    /// Gradients of the residual stream after attention, and of attention's output.
    fn second_half_backward(
        &self,
        layer: usize,
        attended: &Tensor<B, 2>,
        saved: SecondHalf<B>,
        dy: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let ids = &self.index.layers[layer];
        let SecondHalf { projected, low_o, middle, feed_forward } = saved;
        let d_middle = self.feed_forward_backward(ids, &middle, feed_forward, dy, gradients);
        drop(middle);
        let d_added = self.scaled_residual(d_middle.clone());
        let d_projected = match (&projected, ids.attention_norms.after) {
            (Some(projected), Some(norm)) => self.norm_backward(projected, norm, d_added, gradients),
            _ => d_added,
        };
        let d_low = self.linear_gradients(&ids.o, attended, &d_projected, &low_o, gradients);
        let d_attended = self.linear_input_gradient(&ids.o, &d_projected, &d_low, None);
        (d_middle, d_attended)
    }

    /// The gradient of the final norm's input, given that of its scaled output; adds that of its weight.
    pub(super) fn final_norm_backward(
        &self,
        x: &Tensor<B, 2>,
        d_out: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        self.norm_backward(x, self.index.final_norm, scaled(d_out, self.config.logit_scale), gradients)
    }

    /// The gradient of a norm's input; adds that of its weight.
    pub(super) fn norm_backward(
        &self,
        x: &Tensor<B, 2>,
        weight: usize,
        d_out: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        B::rms_norm_backward(x, &self.norm_weight(weight), self.config.rms_norm_eps, d_out, gradients.get(weight))
    }
}
