//! A gated layer, `down(activation(gate(x)) · up(x))`, forward and backward: a dense feed-forward layer, or one expert.

use burn::tensor::Tensor;
use collimate_backend::{FusedOps, GateActivation};
use collimate_hf::Activation;

use super::linear::Low;
use super::{Engine, Gradients};
use crate::parameter_index::GatedIds;

/// What a gated layer's backward pass reads besides its input.
pub(crate) struct Gated<B: FusedOps> {
    pub(super) gate: Tensor<B, 2>,
    pub(super) up: Tensor<B, 2>,
    pub(super) lows: Vec<Low<B>>,
    pub(super) low_down: Low<B>,
}

impl<B: FusedOps> Engine<'_, B> {
    /// The input of a gated layer's down projection, and what the backward pass reads; the caller sets `low_down`.
    pub(super) fn gates(&self, ids: &GatedIds, h: &Tensor<B, 2>) -> (Tensor<B, 2>, Gated<B>) {
        let ([gate, up], lows) = self.joint(&ids.gate_up, h);
        let activated = B::gated(self.activation(), &gate, &up);
        (activated, Gated { gate, up, lows, low_down: None })
    }

    /// The gradient of a gated layer's input, given that of its output; `input` recomputes the input.
    pub(super) fn gated_backward(
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

    /// [`Engine::gated_backward`], given the gradient of the down projection's input.
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
