//! The backward pass of a block.

use burn::tensor::Tensor;
use collimate_backend::FusedOps;

use super::FirstHalf;
use super::mixer::Mixer;
use super::{Activations, Addition, Engine, Gradients, PackInputs, SecondHalf, scaled};

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
        let Activations { input, mixer, second } = activations;
        let mixed = self.mixed(layer, &mixer);
        let (d_middle, d_mixed) = self.second_half_backward(layer, &mixed, second, dy, gradients);
        drop(mixed);
        let before = ids.attention_norms.before;
        let h = || self.normed(&input, before);
        let wants_input = wants_input || before.is_some_and(|norm| gradients.trainable[norm]);
        let half = FirstHalf { d_mixed, h, pack, wants_input };
        let d_h = match mixer {
            Mixer::Attention(attention) => self.attention_backward(layer, attention, half, gradients),
            Mixer::Delta(delta) => self.delta_backward(layer, delta, half, gradients),
        }?;
        let d_x = match before {
            Some(norm) => self.norm_backward(&input, norm, d_h, gradients),
            None => d_h,
        };
        Some(B::add(d_x, &d_middle))
    }

    /// Gradients of the residual stream after attention, and of the output projection's input.
    fn second_half_backward(
        &self,
        layer: usize,
        mixed: &Tensor<B, 2>,
        saved: SecondHalf<B>,
        dy: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> (Tensor<B, 2>, Tensor<B, 2>) {
        let ids = &self.index.layers[layer];
        let SecondHalf { projected, low_o, middle, feed_forward } = saved;
        let d_middle = self.feed_forward_backward(layer, &middle, feed_forward, dy, gradients);
        drop(middle);
        let d_added = self.scaled_residual(self.thinned(d_middle.clone(), Addition::Attention(layer)));
        let d_projected = match (&projected, ids.attention_norms.after) {
            (Some(projected), Some(norm)) => self.norm_backward(projected, norm, d_added, gradients),
            _ => d_added,
        };
        let d_low = self.linear_gradients(&ids.o, mixed, &d_projected, &low_o, gradients);
        let d_mixed = self.linear_input_gradient(&ids.o, &d_projected, &d_low, None);
        (d_middle, d_mixed)
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
