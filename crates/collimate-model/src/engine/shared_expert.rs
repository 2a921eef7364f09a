//! A gated layer that every token goes through beside its experts, forward and backward.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Tensor, TensorData};
use collimate_backend::{FusedOps, in_dtype, in_float32};

use super::gated::Gated;
use super::linear::Low;
use super::{Engine, Gradients};
use crate::parameter_index::SharedIds;

/// What the backward pass reads besides the layer's input.
pub(super) struct SharedTape<B: FusedOps> {
    gated: Gated<B>,
    gate: Option<GateTape<B>>,
}

/// The gate on the layer's output.
struct GateTape<B: FusedOps> {
    /// What it multiplies each row by, [N, 1].
    shares: Tensor<B, 2>,
    low: Low<B>,
}

impl<B: FusedOps> Engine<'_, B> {
    /// Adds the layer's output for the rows of `h` [N, D] to `onto`; without it, skips the last product.
    pub(super) fn shared_expert(
        &self,
        ids: &SharedIds,
        h: &Tensor<B, 2>,
        onto: Option<&mut Tensor<B, 2>>,
    ) -> SharedTape<B> {
        let (activated, mut gated) = self.gates(&ids.layer, h);
        let gate = ids.gate.as_ref().map(|gate| {
            let (logits, low) = self.linear(gate, h, None);
            GateTape { shares: sigmoid(in_float32(logits)), low }
        });
        match onto {
            None => gated.low_down = self.low(&ids.layer.down, &activated),
            Some(onto) => {
                let (out, low_down) = self.linear(&ids.layer.down, &activated, None);
                gated.low_down = low_down;
                let out = match &gate {
                    Some(gate) => in_dtype(in_float32(out.clone()) * gate.shares.clone(), out.dtype()),
                    None => out,
                };
                // Moved out so that it has a single owner and is updated in place.
                let sum = std::mem::replace(onto, Tensor::empty([0, 0], &h.device()));
                *onto = B::add(sum, &self.scaled_residual(out));
            }
        }
        SharedTape { gated, gate }
    }

    /// The gradient of the layer's input `h`, given that of its output.
    pub(super) fn shared_expert_backward(
        &self,
        ids: &SharedIds,
        saved: SharedTape<B>,
        h: &Tensor<B, 2>,
        dy: &Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let SharedTape { gated, gate } = saved;
        let (Some(ids_gate), Some(GateTape { shares, low })) = (&ids.gate, gate) else {
            return self.gated_backward(&ids.layer, gated, || h.clone(), dy, gradients);
        };
        // To its gate the layer is an expert of every row, with the shares as weights.
        let (d_h, d_shares) = self.expert_backward(&ids.layer, gated, h, dy, shares.clone(), gradients);
        let d_shares = Tensor::from_data(TensorData::new(d_shares, shares.dims()), &h.device());
        let d_logits = d_shares * shares.clone() * (shares.neg() + 1.0);
        let d_logits = in_dtype(d_logits, dy.dtype());
        let d_low = self.linear_gradients(ids_gate, h, &d_logits, &low, gradients);
        self.linear_input_gradient(ids_gate, &d_logits, &d_low, Some(d_h))
    }
}
