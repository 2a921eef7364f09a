//! Linear layers with a bias and perhaps an adapter, and where gradients go.

use burn::tensor::Tensor;
use collimate_backend::{Factor, FusedOps, Gradient, in_dtype, in_float32, plain};
use collimate_towers::Tower;

use crate::ids::LinearIds;

/// The gradients of a model's parameters; backward passes add to them.
#[derive(Debug)]
pub struct Slots<'a, B: FusedOps> {
    /// Which parameters are trained.
    pub trainable: &'a [bool],
    /// Their gradients so far.
    pub held: &'a mut [Gradient<B>],
}

impl<B: FusedOps> Slots<'_, B> {
    /// The gradient of a parameter, if it is trained.
    pub(crate) fn get(&mut self, id: usize) -> Option<&mut Gradient<B>> {
        self.trainable[id].then(|| &mut self.held[id])
    }
}

/// What all layers of a tower read.
pub(crate) struct Layers<'a, B: FusedOps> {
    pub(crate) tower: &'a Tower,
    pub(crate) params: &'a [Tensor<B, 2>],
    /// Weights that are held packed, or in the order of products.
    pub(crate) packed: &'a [Option<B::Packed>],
}

impl<B: FusedOps> Layers<'_, B> {
    /// `onto + x W + bias + s (x A) B`.
    pub(crate) fn linear(&self, ids: &LinearIds, x: &Tensor<B, 2>, onto: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        let bias = in_dtype(self.params[ids.bias].clone(), x.dtype());
        let onto = match onto {
            Some(onto) => onto + bias,
            None => bias.repeat_dim(0, x.dims()[0]),
        };
        let y = self.times_weight(ids, x, Some(onto));
        match &ids.lora {
            Some(lora) => {
                let low = self.low(lora.a, x);
                B::multiply(Some(y), lora.scale, Factor::new(&low), Factor::new(&self.params[lora.b]))
            }
            None => y,
        }
    }

    /// The gradient of the layer's input; adds those of its parameters.
    pub(crate) fn linear_backward(
        &self,
        ids: &LinearIds,
        x: &Tensor<B, 2>,
        dy: &Tensor<B, 2>,
        slots: &mut Slots<'_, B>,
    ) -> Tensor<B, 2> {
        if let Some(gradient) = slots.get(ids.bias) {
            plain::accumulate(gradient, in_float32(dy.clone()).sum_dim(0));
        }
        if let Some(gradient) = slots.get(ids.weight) {
            B::add_product(gradient, 1.0, Factor::transpose_of(x), Factor::new(dy));
        }
        let dx = match &self.packed[ids.weight] {
            Some(packed) => B::multiply_packed(None, 1.0, dy, packed, true),
            None => B::multiply(None, 1.0, Factor::new(dy), Factor::transpose_of(&self.params[ids.weight])),
        };
        let Some(lora) = &ids.lora else { return dx };
        if let Some(gradient) = slots.get(lora.b) {
            let low = self.low(lora.a, x);
            B::add_product(gradient, lora.scale, Factor::transpose_of(&low), Factor::new(dy));
        }
        let d_low = B::multiply(None, lora.scale, Factor::new(dy), Factor::transpose_of(&self.params[lora.b]));
        if let Some(gradient) = slots.get(lora.a) {
            B::add_product(gradient, 1.0, Factor::transpose_of(x), Factor::new(&d_low));
        }
        B::multiply(Some(dx), 1.0, Factor::new(&d_low), Factor::transpose_of(&self.params[lora.a]))
    }

    /// `onto + x W`.
    fn times_weight(&self, ids: &LinearIds, x: &Tensor<B, 2>, onto: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        match &self.packed[ids.weight] {
            Some(packed) => B::multiply_packed(onto, 1.0, x, packed, false),
            None => B::multiply(onto, 1.0, Factor::new(x), Factor::new(&self.params[ids.weight])),
        }
    }

    /// `x A`.
    fn low(&self, a: usize, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        B::multiply(None, 1.0, Factor::new(x), Factor::new(&self.params[a]))
    }
}
