//! Linear layers with bias and adapter: one, or several that read the same input.

use burn::tensor::Tensor;
use collimate_backend::{Factor, FusedOps, PackedTensor, in_dtype, in_float32, plain};

use super::{Engine, Gradients};
use crate::parameter_index::{JointIds, LinearIds};

/// The output of LoRA's factor A, [N, r], if the layer has an adapter.
pub(super) type Low<B> = Option<Tensor<B, 2>>;

impl<B: FusedOps> Engine<'_, B> {
    /// `onto + x W + bias + s (x A) B`, and `x A` for the backward pass.
    pub(super) fn linear(
        &self,
        ids: &LinearIds,
        x: &Tensor<B, 2>,
        onto: Option<Tensor<B, 2>>,
    ) -> (Tensor<B, 2>, Low<B>) {
        let bias = ids.bias.map(|bias| in_dtype(self.params[bias].clone(), x.dtype()));
        let onto = match (onto, bias) {
            (Some(onto), Some(bias)) => Some(onto + bias),
            (None, Some(bias)) => Some(bias.repeat_dim(0, x.dims()[0])),
            (onto, None) => onto,
        };
        let low = self.low(ids, x);
        if let (Some(lora), Some(low)) = (&ids.lora, &low)
            && let Some(magnitude) = lora.magnitude
        {
            let y = self.dora(ids, lora, magnitude, x, low);
            let y = match onto {
                Some(onto) => B::add(onto, &y),
                None => y,
            };
            return (y, Some(low.clone()));
        }
        let y = self.times_weight(ids, x, onto);
        let (Some(lora), Some(low)) = (&ids.lora, &low) else {
            return (y, None);
        };
        let y = B::multiply(Some(y), lora.scale, Factor::new(low), Factor::new(&self.params[lora.b]));
        (y, Some(low.clone()))
    }

    /// `onto + x W`.
    pub(super) fn times_weight(&self, ids: &LinearIds, x: &Tensor<B, 2>, onto: Option<Tensor<B, 2>>) -> Tensor<B, 2> {
        match &self.packed[ids.weight] {
            Some(packed) => B::multiply_packed(onto, 1.0, x, packed, false),
            None => B::multiply(onto, 1.0, Factor::new(x), Factor::new(&self.params[ids.weight])),
        }
    }

    /// `onto + dy Wᵀ`.
    pub(super) fn times_weight_transposed(
        &self,
        ids: &LinearIds,
        dy: &Tensor<B, 2>,
        onto: Option<Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        match &self.packed[ids.weight] {
            Some(packed) => B::multiply_packed(onto, 1.0, dy, packed, true),
            None => B::multiply(onto, 1.0, Factor::new(dy), Factor::transpose_of(&self.params[ids.weight])),
        }
    }

    /// The weight W in float32, [in, out].
    pub(super) fn weight(&self, ids: &LinearIds) -> Tensor<B, 2> {
        match &self.packed[ids.weight] {
            Some(packed) => packed.unpack(self.device).transpose(),
            None => in_float32(self.params[ids.weight].clone()),
        }
    }

    /// `x A` of the layer's adapter, if it has one.
    pub(super) fn low(&self, ids: &LinearIds, x: &Tensor<B, 2>) -> Low<B> {
        let lora = ids.lora.as_ref()?;
        Some(B::multiply(None, 1.0, Factor::new(&self.dropped(x, ids)), Factor::new(&self.params[lora.a])))
    }

    /// Adds the gradients of the layer's parameters; returns that of `low` for [`Engine::linear_input_gradient`].
    pub(super) fn linear_gradients(
        &self,
        ids: &LinearIds,
        x: &Tensor<B, 2>,
        dy: &Tensor<B, 2>,
        low: &Low<B>,
        gradients: &mut Gradients<'_, B>,
    ) -> Low<B> {
        self.bias_gradient(ids, dy, gradients);
        self.weight_gradients(ids, x, dy, low, gradients)
    }

    /// Adds the gradient of the layer's bias.
    pub(super) fn bias_gradient(&self, ids: &LinearIds, dy: &Tensor<B, 2>, gradients: &mut Gradients<'_, B>) {
        if let Some(gradient) = ids.bias.and_then(|bias| gradients.get(bias)) {
            plain::accumulate(gradient, in_float32(dy.clone()).sum_dim(0));
        }
    }

    /// [`Engine::linear_gradients`] without the bias.
    pub(super) fn weight_gradients(
        &self,
        ids: &LinearIds,
        x: &Tensor<B, 2>,
        dy: &Tensor<B, 2>,
        low: &Low<B>,
        gradients: &mut Gradients<'_, B>,
    ) -> Low<B> {
        if let Some(gradient) = gradients.get(ids.weight) {
            B::add_product(gradient, 1.0, Factor::transpose_of(x), Factor::new(dy));
        }
        let (Some(lora), Some(low)) = (&ids.lora, low) else { return None };
        let dy = &self.dora_backward(ids, lora, x, low, dy, gradients);
        if let Some(gradient) = gradients.get(lora.b) {
            B::add_product(gradient, lora.scale, Factor::transpose_of(low), Factor::new(dy));
        }
        let d_low = B::multiply(None, lora.scale, Factor::new(dy), Factor::transpose_of(&self.params[lora.b]));
        if let Some(gradient) = gradients.get(lora.a) {
            let x = self.dropped(x, ids);
            B::add_product(gradient, 1.0, Factor::transpose_of(&x), Factor::new(&d_low));
        }
        Some(d_low)
    }

    /// The gradient of the layer's input, added to `onto`.
    pub(super) fn linear_input_gradient(
        &self,
        ids: &LinearIds,
        dy: &Tensor<B, 2>,
        d_low: &Low<B>,
        onto: Option<Tensor<B, 2>>,
    ) -> Tensor<B, 2> {
        if let (Some(d_low), Some(lora)) = (d_low, &ids.lora)
            && let Some(magnitude) = lora.magnitude
        {
            return self.dora_input_gradient(ids, lora, magnitude, dy, d_low, onto);
        }
        let dx = self.times_weight_transposed(ids, dy, onto);
        let (Some(d_low), Some(lora)) = (d_low, &ids.lora) else { return dx };
        let a = Factor::transpose_of(&self.params[lora.a]);
        match self.dropout {
            None => B::multiply(Some(dx), 1.0, Factor::new(d_low), a),
            Some(dropout) => {
                let d_dropped = B::multiply(None, 1.0, Factor::new(d_low), a);
                B::add(dx, &dropout.apply(d_dropped, ids.ordinal, self.rows))
            }
        }
    }

    /// Outputs of linear layers that read the same input, and of LoRA's factors A.
    pub(super) fn joint<const N: usize>(
        &self,
        ids: &JointIds<N>,
        x: &Tensor<B, 2>,
    ) -> ([Tensor<B, 2>; N], Vec<Low<B>>) {
        match ids {
            JointIds::Separate(linears) => {
                let mut lows = Vec::with_capacity(N);
                let outputs = linears.each_ref().map(|linear| {
                    let (y, low) = self.linear(linear, x, None);
                    lows.push(low);
                    y
                });
                (outputs, lows)
            }
            JointIds::Fused(linear, widths) => {
                let (y, low) = self.linear(linear, x, None);
                let mut start = 0;
                let outputs = widths.map(|width| {
                    start += width;
                    B::columns(&y, start - width..start)
                });
                (outputs, vec![low])
            }
        }
    }

    /// Adds the gradients of the layers' parameters; returns what [`Engine::joint_input_gradient`] reads.
    pub(super) fn joint_gradients<const N: usize>(
        &self,
        ids: &JointIds<N>,
        x: &Tensor<B, 2>,
        d_outputs: [Tensor<B, 2>; N],
        lows: &[Low<B>],
        gradients: &mut Gradients<'_, B>,
    ) -> Vec<(Tensor<B, 2>, Low<B>)> {
        let d_outputs = match ids {
            JointIds::Separate(_) => Vec::from(d_outputs),
            JointIds::Fused(..) => vec![Tensor::cat(Vec::from(d_outputs), 1)],
        };
        let backward = |((linear, dy), low)| {
            let d_low = self.linear_gradients(linear, x, &dy, low, gradients);
            (dy, d_low)
        };
        ids.linears().iter().zip(d_outputs).zip(lows).map(backward).collect()
    }

    /// The gradient of the layers' input.
    pub(super) fn joint_input_gradient<const N: usize>(
        &self,
        ids: &JointIds<N>,
        d_outputs: Vec<(Tensor<B, 2>, Low<B>)>,
    ) -> Tensor<B, 2> {
        let rows = d_outputs.first().map_or(0, |(dy, _)| dy.dims()[0]);
        let mut sum = None;
        for (linear, (dy, d_low)) in ids.linears().iter().zip(d_outputs) {
            sum = Some(self.linear_input_gradient(linear, &dy, &d_low, sum));
        }
        sum.unwrap_or_else(|| Tensor::zeros([rows, self.config.hidden_size], self.device))
    }

    /// The input of A.
    pub(super) fn dropped(&self, x: &Tensor<B, 2>, ids: &LinearIds) -> Tensor<B, 2> {
        match self.dropout {
            Some(dropout) => dropout.apply(x.clone(), ids.ordinal, self.rows),
            None => x.clone(),
        }
    }
}
