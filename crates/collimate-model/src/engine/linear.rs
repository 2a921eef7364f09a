//! Linear layers with their bias and adapter.

use burn::tensor::Tensor;
use collimate_backend::{Factor, FusedOps};

use super::{Engine, Gradients, Low};
use crate::layout::LinearIds;

impl<B: FusedOps> Engine<'_, B> {
    /// `onto + x W + bias + s (x A) B`, and `x A`, which the way back reads.
    pub(super) fn linear(
        &self,
        ids: &LinearIds,
        x: &Tensor<B, 2>,
        onto: Option<Tensor<B, 2>>,
    ) -> (Tensor<B, 2>, Low<B>) {
        let bias = ids.bias.map(|bias| self.params[bias].clone());
        let onto = match (onto, bias) {
            (Some(onto), Some(bias)) => Some(onto + bias),
            (None, Some(bias)) => Some(bias.repeat_dim(0, x.dims()[0])),
            (onto, None) => onto,
        };
        let y = B::multiply(onto, 1.0, Factor::of(x), Factor::of(&self.params[ids.weight]));
        let low = self.low(ids, x);
        let (Some(lora), Some(scale), Some(low)) = (&ids.lora, self.adapter_scale, &low) else {
            return (y, None);
        };
        let y = B::multiply(Some(y), scale as f32, Factor::of(low), Factor::of(&self.params[lora.b]));
        (y, Some(low.clone()))
    }

    /// `x A` of the layer's adapter, where it has one.
    pub(super) fn low(&self, ids: &LinearIds, x: &Tensor<B, 2>) -> Low<B> {
        let lora = ids.lora.as_ref().filter(|_| self.adapter_scale.is_some())?;
        Some(B::multiply(None, 1.0, Factor::of(&self.dropped(x, ids)), Factor::of(&self.params[lora.a])))
    }

    /// Adds the gradients of the layer's parameters; the gradient of `low` for [`Engine::linear_input_gradient`].
    pub(super) fn linear_gradients(
        &self,
        ids: &LinearIds,
        x: &Tensor<B, 2>,
        dy: &Tensor<B, 2>,
        low: &Low<B>,
        gradients: &mut Gradients<'_, B>,
    ) -> Low<B> {
        if let Some(gradient) = gradients.of(ids.weight) {
            *gradient = Some(B::multiply(gradient.take(), 1.0, Factor::transpose_of(x), Factor::of(dy)));
        }
        if let Some(gradient) = ids.bias.and_then(|bias| gradients.of(bias)) {
            let sum = dy.clone().sum_dim(0);
            *gradient = Some(match gradient.take() {
                Some(held) => held + sum,
                None => sum,
            });
        }
        let (Some(lora), Some(scale), Some(low)) = (&ids.lora, self.adapter_scale, low) else { return None };
        let scale = scale as f32;
        if let Some(gradient) = gradients.of(lora.b) {
            *gradient = Some(B::multiply(gradient.take(), scale, Factor::transpose_of(low), Factor::of(dy)));
        }
        let d_low = B::multiply(None, scale, Factor::of(dy), Factor::transpose_of(&self.params[lora.b]));
        if let Some(gradient) = gradients.of(lora.a) {
            let x = self.dropped(x, ids);
            *gradient = Some(B::multiply(gradient.take(), 1.0, Factor::transpose_of(&x), Factor::of(&d_low)));
        }
        Some(d_low)
    }

    /// `onto` plus the gradient of the layer's input.
    pub(super) fn linear_input_gradient(
        &self,
        ids: &LinearIds,
        dy: &Tensor<B, 2>,
        d_low: &Low<B>,
        onto: Option<Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        let dx = B::multiply(onto, 1.0, Factor::of(dy), Factor::transpose_of(&self.params[ids.weight]));
        let (Some(d_low), Some(lora)) = (d_low, &ids.lora) else { return dx };
        let a = Factor::transpose_of(&self.params[lora.a]);
        match self.dropout {
            None => B::multiply(Some(dx), 1.0, Factor::of(d_low), a),
            Some(dropout) => {
                let through = B::multiply(None, 1.0, Factor::of(d_low), a);
                B::add(dx, &dropout.apply(through, ids.number))
            }
        }
    }

    fn dropped(&self, x: &Tensor<B, 2>, ids: &LinearIds) -> Tensor<B, 2> {
        match self.dropout {
            Some(dropout) => dropout.apply(x.clone(), ids.number),
            None => x.clone(),
        }
    }
}
