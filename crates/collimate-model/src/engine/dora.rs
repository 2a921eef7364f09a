//! DoRA (arXiv 2402.09353): each row of an adapted weight gets a trained length.
//!
//! With W [out, in], factors A and B, scale s and magnitudes m \[out\], a layer computes `m / ‖W + s B A‖ · (W + s B A) x`,
//! row by row. As in the paper (section 4.3) and in PEFT, the norm is a constant to the backward pass. With dropout D, the
//! layer computes `W (x − D x) + m / ‖…‖ · (W + s B A) D x`, as PEFT does.

use burn::tensor::Tensor;
use collimate_backend::{Factor, FusedOps, in_dtype, in_float32};

use super::{Engine, Gradients};
use crate::parameter_index::{LinearIds, LoraIds};

/// What DoRA multiplies a layer's outputs by.
pub(super) struct Lengths<B: FusedOps> {
    /// m / ‖W + s B A‖, [1, out]; of the output layer, [V, 1].
    pub(super) factor: Tensor<B, 2>,
    /// ‖W + s B A‖.
    norms: Tensor<B, 2>,
}

impl<B: FusedOps> Lengths<B> {
    /// The gradient of the magnitudes, [1, out], from `d · (W + s B A) x` summed for each output.
    pub(super) fn d_magnitude(&self, products: Tensor<B, 2>) -> Tensor<B, 2> {
        let d = products / self.norms.clone();
        if d.dims()[1] == 1 { d.transpose() } else { d }
    }
}

impl<B: FusedOps> Engine<'_, B> {
    /// The lengths of a linear layer's rows, which are columns of the stored weight.
    fn lengths(&self, ids: &LinearIds, lora: &LoraIds, magnitude: usize) -> Lengths<B> {
        let weight = self.weight(ids);
        let (a, b) = (Factor::new(&self.params[lora.a]), Factor::new(&self.params[lora.b]));
        let sum = B::multiply(Some(weight), lora.scale, a, b);
        let norms = (sum.clone() * sum).sum_dim(0).sqrt();
        Lengths { factor: self.params[magnitude].clone() / norms.clone(), norms }
    }

    /// The lengths of the output layer's rows.
    pub(super) fn head_lengths(&self, lora: &LoraIds, magnitude: usize) -> Lengths<B> {
        let weight = in_float32(self.params[self.index.head.weight].clone());
        let (a, b) = (Factor::transpose_of(&self.params[lora.a]), Factor::new(&self.params[lora.b]));
        let sum = B::multiply(Some(weight), lora.scale, b, a);
        let norms = (sum.clone() * sum).sum_dim(1).sqrt();
        // burn-tch takes a transpose that nobody else holds for memory of its own, and would divide the parameter in place.
        let magnitudes = self.params[magnitude].clone().transpose();
        Lengths { factor: magnitudes.clone() / norms.clone(), norms }
    }

    /// The layer's output without its bias, given its input and that of A.
    pub(super) fn dora(
        &self,
        ids: &LinearIds,
        lora: &LoraIds,
        magnitude: usize,
        x: &Tensor<B, 2>,
        low: &Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let dropped = self.dropped(x, ids);
        let sum = self.dora_sum(ids, lora, &dropped, low);
        let factor = self.lengths(ids, lora, magnitude).factor;
        let y = in_dtype(in_float32(sum) * factor, x.dtype());
        match self.dropout {
            None => y,
            Some(_) => {
                let rest = x.clone() - dropped;
                self.times_weight(ids, &rest, Some(y))
            }
        }
    }

    /// `(W + s B A) x`.
    fn dora_sum(&self, ids: &LinearIds, lora: &LoraIds, x: &Tensor<B, 2>, low: &Tensor<B, 2>) -> Tensor<B, 2> {
        let y = self.times_weight(ids, x, None);
        B::multiply(Some(y), lora.scale, Factor::new(low), Factor::new(&self.params[lora.b]))
    }

    /// Adds the gradient of a layer's magnitudes, and returns that of `(W + s B A) x`.
    pub(super) fn dora_backward(
        &self,
        ids: &LinearIds,
        lora: &LoraIds,
        x: &Tensor<B, 2>,
        low: &Tensor<B, 2>,
        dy: &Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let Some(magnitude) = lora.magnitude else { return dy.clone() };
        let lengths = self.lengths(ids, lora, magnitude);
        let dy = in_float32(dy.clone());
        if let Some(gradient) = gradients.get(magnitude) {
            let sum = in_float32(self.dora_sum(ids, lora, &self.dropped(x, ids), low));
            let d = lengths.d_magnitude((dy.clone() * sum).sum_dim(0));
            *gradient = Some(match gradient.take() {
                Some(held) => held + d,
                None => d,
            });
        }
        in_dtype(dy * lengths.factor, x.dtype())
    }

    /// The gradient of a DoRA layer's input, added to `onto`.
    pub(super) fn dora_input_gradient(
        &self,
        ids: &LinearIds,
        lora: &LoraIds,
        magnitude: usize,
        dy: &Tensor<B, 2>,
        d_low: &Tensor<B, 2>,
        onto: Option<Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        let factor = self.lengths(ids, lora, magnitude).factor;
        let d_sum = in_dtype(in_float32(dy.clone()) * factor, dy.dtype());
        let a = Factor::transpose_of(&self.params[lora.a]);
        let Some(dropout) = self.dropout else {
            let dx = self.times_weight_transposed(ids, &d_sum, onto);
            return B::multiply(Some(dx), 1.0, Factor::new(d_low), a);
        };
        let dx = self.times_weight_transposed(ids, dy, onto);
        let rest = d_sum - dy.clone();
        let d_dropped = self.times_weight_transposed(ids, &rest, None);
        let d_dropped = B::multiply(Some(d_dropped), 1.0, Factor::new(d_low), a);
        B::add(dx, &dropout.apply(d_dropped, ids.ordinal, self.rows))
    }
}
