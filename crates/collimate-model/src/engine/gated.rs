//! A gated layer, `down(activation(gate(x)) · up(x))`, forward and backward: a dense feed-forward layer, or one expert.

use burn::tensor::Tensor;
use collimate_backend::{FusedOps, GateActivation, in_dtype, in_float32};
use collimate_hf::{Activation, ClampedGate};

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
        let activated = self.activated(&gate, &up);
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
        let activated = self.activated(&saved.gate, &saved.up);
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
        let (d_gate, d_up) = match self.config.clamped_gate {
            None => B::gated_backward(self.activation(), gate, up, &d_activated),
            Some(bounds) => clamped_backward(bounds, gate, up, &d_activated),
        };
        drop(d_activated);
        let d_outputs = self.joint_gradients(&ids.gate_up, &input(), [d_gate, d_up], &lows, gradients);
        self.joint_input_gradient(&ids.gate_up, d_outputs)
    }

    /// The input of the down projection.
    pub(super) fn activated(&self, gate: &Tensor<B, 2>, up: &Tensor<B, 2>) -> Tensor<B, 2> {
        let Some(bounds) = self.config.clamped_gate else { return B::gated(self.activation(), gate, up) };
        let (bounded_gate, bounded_up) = clamped(bounds, gate, up);
        in_dtype(B::gated(GateActivation::Silu, &bounded_gate, &bounded_up), gate.dtype())
    }

    fn activation(&self) -> GateActivation {
        match self.config.hidden_act {
            Activation::Silu => GateActivation::Silu,
            Activation::Gelu => GateActivation::Gelu,
            Activation::GeluTanh => GateActivation::GeluTanh,
        }
    }
}

/// `alpha · min(gate, limit)` and `(clamp(up, ±limit) + 1) / alpha`, in float32: SiLU of the first times the second is the
/// clamped gate.
fn clamped<B: FusedOps>(
    ClampedGate { alpha, limit }: ClampedGate,
    gate: &Tensor<B, 2>,
    up: &Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let gate = in_float32(gate.clone()).clamp_max(limit).mul_scalar(alpha);
    (gate, in_float32(up.clone()).clamp(-limit, limit).add_scalar(1.0).div_scalar(alpha))
}

/// Gradients of gate and up; none where a bound holds.
fn clamped_backward<B: FusedOps>(
    bounds: ClampedGate,
    gate: Tensor<B, 2>,
    up: Tensor<B, 2>,
    d_out: &Tensor<B, 2>,
) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let ClampedGate { alpha, limit } = bounds;
    let (bounded_gate, bounded_up) = clamped(bounds, &gate, &up);
    let d_out = in_float32(d_out.clone());
    let (d_gate, d_up) = B::gated_backward(GateActivation::Silu, bounded_gate, bounded_up, &d_out);
    let d_gate = d_gate.mul_scalar(alpha).mask_fill(gate.clone().greater_elem(limit), 0.0);
    let d_up = d_up.div_scalar(alpha).mask_fill(up.clone().abs().greater_elem(limit), 0.0);
    (in_dtype(d_gate, gate.dtype()), in_dtype(d_up, up.dtype()))
}
