//! LayerNorm and RMSNorm, forward and backward.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use collimate_backend::{FusedOps, in_dtype, in_float32, plain};
use collimate_towers::Norm;

use crate::ids::NormIds;
use crate::linear::{Layers, Slots};

impl<B: FusedOps> Layers<'_, B> {
    /// The norm of each row, in the dtype of `x`.
    pub(crate) fn norm(&self, ids: NormIds, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        let weight = &self.params[ids.weight];
        match (self.tower.norm, ids.bias) {
            (Norm::Layer, Some(bias)) => {
                let y = Standard::of(x, self.tower.norm_eps).rows * weight.clone() + self.params[bias].clone();
                in_dtype(y, x.dtype())
            }
            _ => B::rms_norm(x, weight, self.tower.norm_eps),
        }
    }

    /// The gradient of the norm's input; adds those of its parameters.
    pub(crate) fn norm_backward(
        &self,
        ids: NormIds,
        x: &Tensor<B, 2>,
        d_out: Tensor<B, 2>,
        slots: &mut Slots<'_, B>,
    ) -> Tensor<B, 2> {
        let weight = &self.params[ids.weight];
        let (Norm::Layer, Some(bias)) = (self.tower.norm, ids.bias) else {
            return B::rms_norm_backward(x, weight, self.tower.norm_eps, d_out, slots.get(ids.weight));
        };
        let Standard { rows, inverse_deviation } = Standard::of(x, self.tower.norm_eps);
        let d_out = in_float32(d_out);
        if let Some(gradient) = slots.get(bias) {
            plain::accumulate(gradient, d_out.clone().sum_dim(0));
        }
        if let Some(gradient) = slots.get(ids.weight) {
            plain::accumulate(gradient, (d_out.clone() * rows.clone()).sum_dim(0));
        }
        let d_rows = d_out * weight.clone();
        let along = (d_rows.clone() * rows.clone()).mean_dim(1);
        let d_x = (d_rows.clone() - d_rows.mean_dim(1) - rows * along) * inverse_deviation;
        in_dtype(d_x, x.dtype())
    }
}

/// Rows less their mean, over their standard deviation, in float32.
struct Standard<B: Backend> {
    rows: Tensor<B, 2>,
    /// [N, 1].
    inverse_deviation: Tensor<B, 2>,
}

impl<B: Backend> Standard<B> {
    fn of(x: &Tensor<B, 2>, eps: f64) -> Self {
        let x = in_float32(x.clone());
        let centered = x.clone() - x.mean_dim(1);
        let variance = (centered.clone() * centered.clone()).mean_dim(1);
        let inverse_deviation = variance.add_scalar(eps).sqrt().recip();
        Self { rows: centered * inverse_deviation.clone(), inverse_deviation }
    }
}
