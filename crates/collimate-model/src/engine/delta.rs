//! A Gated DeltaNet layer, forward and backward (arXiv 2412.06464): a short convolution of queries, keys and values, the
//! gated delta rule, and a norm with a gate on each head's output.
//!
//! What a prompt leaves for its responses is its final state and the last inputs of its convolution.

use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, silu};
use collimate_backend::{DeltaInputs, DeltaShape, FusedOps, GateActivation, Segment, in_dtype, in_float32, plain};
use collimate_hf::{LinearAttention, ModelConfig};

use super::FirstHalf;
use super::linear::Low;
use super::{Engine, Gradients};
use crate::parameter_index::{DeltaIds, LinearIds};

/// What the backward pass of a Gated DeltaNet reads.
pub(crate) struct Delta<B: FusedOps> {
    inputs: DeltaProjections<B>,
    /// Queries, keys and values after the convolution, [N, width].
    convolved: Tensor<B, 2>,
    /// The output of the delta rule, [N, value_heads · value_dim].
    out: Tensor<B, 2>,
}

/// The projections of a Gated DeltaNet's input.
pub(crate) struct DeltaProjections<B: FusedOps> {
    /// Queries, keys and values, [N, width].
    qkv: Tensor<B, 2>,
    /// Gate on the output, before its activation, [N, value_heads · value_dim].
    gate: Tensor<B, 2>,
    /// The decay before its softplus, with its bias, in float32, [N, value_heads].
    step: Tensor<B, 2>,
    /// The logarithm of the decay, and how far values are corrected, in float32, [N, value_heads].
    decay: Tensor<B, 2>,
    beta: Tensor<B, 2>,
    lows: [Low<B>; 4],
}

/// What a Gated DeltaNet keeps of the tokens so far, by sequence.
pub(crate) struct DeltaMemory<B: FusedOps> {
    /// The last inputs of the convolution, [S, (taps − 1) · width].
    pub(crate) tail: Tensor<B, 2>,
    /// The states of all heads, [S, value_heads · key_dim · value_dim], in float32.
    pub(crate) state: Tensor<B, 2>,
}

/// The sizes of a layer's delta rule.
pub(crate) fn delta_shape(config: &ModelConfig, layer: usize) -> DeltaShape {
    let sizes = sizes(config, layer);
    DeltaShape {
        key_heads: sizes.key_heads,
        value_heads: sizes.value_heads,
        key_dim: sizes.key_dim,
        value_dim: sizes.value_dim,
    }
}

fn sizes(config: &ModelConfig, layer: usize) -> LinearAttention {
    let Some(sizes) = config.linear_attention_of(layer) else {
        unreachable!("a layer with a delta rule has its sizes")
    };
    sizes
}

impl<B: FusedOps> Engine<'_, B> {
    fn delta_ids(&self, layer: usize) -> &DeltaIds {
        let Some(ids) = &self.index.layers[layer].delta else {
            unreachable!("a layer with a delta rule has its tensors")
        };
        ids
    }

    /// The linear layers that read a Gated DeltaNet's input, in the order of [`DeltaProjections::lows`].
    fn delta_linears(&self, layer: usize) -> [&LinearIds; 4] {
        let (ids, [qkv, ..]) = (self.delta_ids(layer), self.index.layers[layer].qkv.linears()) else {
            unreachable!("queries, keys and values are one linear layer")
        };
        [qkv, &ids.gate, &ids.decay, &ids.beta]
    }

    pub(super) fn delta(&self, layer: usize, x: &Tensor<B, 2>, segments: &[Segment]) -> Delta<B> {
        let inputs = self.delta_projections(layer, x);
        let weight = &self.params[self.delta_ids(layer).convolution];
        let convolved = B::convolution(&inputs.qkv, weight, segments);
        let out = B::delta_rule(&delta_shape(self.config, layer), segments, inputs.read(&convolved));
        Delta { inputs, convolved, out }
    }

    /// The first norm of a block with a Gated DeltaNet, and its projections.
    fn delta_projections(&self, layer: usize, x: &Tensor<B, 2>) -> DeltaProjections<B> {
        let h = self.normed(x, self.index.layers[layer].attention_norms.before);
        let projected = self.delta_linears(layer).map(|linear| self.linear(linear, &h, None));
        let [(qkv, low), (gate, low_gate), (decay, low_decay), (beta, low_beta)] = projected;
        let ids = self.delta_ids(layer);
        let step = in_float32(decay) + self.params[ids.decay_bias].clone();
        let decay = softplus(step.clone()) * self.params[ids.decay_scale].clone().exp().neg();
        let beta = sigmoid(in_float32(beta));
        DeltaProjections { qkv, gate, step, decay, beta, lows: [low, low_gate, low_decay, low_beta] }
    }

    /// The gated norm of each head's output: the input of the output projection.
    pub(super) fn delta_output(&self, layer: usize, delta: &Delta<B>) -> Tensor<B, 2> {
        self.gated_norm(layer, &delta.inputs.gate, &delta.out)
    }

    fn gated_norm(&self, layer: usize, gate: &Tensor<B, 2>, out: &Tensor<B, 2>) -> Tensor<B, 2> {
        B::gated(GateActivation::Silu, gate, &self.head_norm(layer, out))
    }

    /// The norm of each head's output, whose weight has no offset.
    fn head_norm(&self, layer: usize, out: &Tensor<B, 2>) -> Tensor<B, 2> {
        B::rms_norm(out, &self.params[self.delta_ids(layer).norm], self.config.rms_norm_eps)
    }

    /// The gradient of a block's normed input, given that of the output projection's input; skipped unless wanted.
    pub(super) fn delta_backward(
        &self,
        layer: usize,
        delta: Delta<B>,
        half: FirstHalf<'_, B, impl FnOnce() -> Tensor<B, 2>>,
        gradients: &mut Gradients<'_, B>,
    ) -> Option<Tensor<B, 2>> {
        let FirstHalf { d_mixed, h, pack, wants_input } = half;
        let (ids, segments) = (self.delta_ids(layer), &pack.segments);
        let Delta { inputs, convolved, out } = delta;
        let normed = self.head_norm(layer, &out);
        let (d_gate, d_normed) = B::gated_backward(GateActivation::Silu, inputs.gate.clone(), normed, &d_mixed);
        drop(d_mixed);
        let (weight, eps) = (&self.params[ids.norm], self.config.rms_norm_eps);
        let d_out = B::rms_norm_backward(&out, weight, eps, d_normed, gradients.get(ids.norm));
        drop(out);
        let shape = delta_shape(self.config, layer);
        let [d_convolved, d_decay, d_beta] = B::delta_rule_backward(&shape, segments, inputs.read(&convolved), &d_out);
        drop((d_out, convolved));
        let weight = &self.params[ids.convolution];
        let d_weight = gradients.get(ids.convolution);
        let d_qkv = B::convolution_backward(&inputs.qkv, weight, segments, &d_convolved, d_weight);
        drop(d_convolved);
        let d_step = self.decay_backward(layer, &inputs, d_decay, gradients);
        let d_beta = d_beta * inputs.beta.clone() * (inputs.beta.neg().add_scalar(1.0));
        let h = h();
        let d_outputs = [d_qkv, d_gate, in_dtype(d_step, h.dtype()), in_dtype(d_beta, h.dtype())];
        self.delta_input_gradient(layer, &h, Projected { d_outputs, lows: inputs.lows, wants_input }, gradients)
    }

    /// The gradient of the decay before its softplus, given that of its logarithm; adds those of its factor and bias.
    fn decay_backward(
        &self,
        layer: usize,
        inputs: &DeltaProjections<B>,
        d_decay: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        let ids = self.delta_ids(layer);
        if let Some(gradient) = gradients.get(ids.decay_scale) {
            // The logarithm is −e^scale · softplus, its own derivative.
            plain::accumulate(gradient, (d_decay.clone() * inputs.decay.clone()).sum_dim(0));
        }
        let factor = self.params[ids.decay_scale].clone().exp().neg();
        let d_step = d_decay * sigmoid(inputs.step.clone()) * factor;
        if let Some(gradient) = gradients.get(ids.decay_bias) {
            plain::accumulate(gradient, d_step.clone().sum_dim(0));
        }
        d_step
    }

    /// Adds the gradients of the projections' parameters; returns that of their input if wanted.
    fn delta_input_gradient(
        &self,
        layer: usize,
        h: &Tensor<B, 2>,
        projected: Projected<B>,
        gradients: &mut Gradients<'_, B>,
    ) -> Option<Tensor<B, 2>> {
        let Projected { d_outputs, lows, wants_input } = projected;
        let linears = self.delta_linears(layer);
        let d_lows: Vec<Low<B>> = linears
            .iter()
            .zip(d_outputs.iter().zip(&lows))
            .map(|(linear, (dy, low))| self.linear_gradients(linear, h, dy, low, gradients))
            .collect();
        let mut sum = None;
        for (linear, (dy, d_low)) in linears.iter().zip(d_outputs.iter().zip(&d_lows)).filter(|_| wants_input) {
            sum = Some(self.linear_input_gradient(linear, dy, d_low, sum));
        }
        sum
    }
}

/// Gradients of a Gated DeltaNet's projections, on their way to the input.
struct Projected<B: FusedOps> {
    d_outputs: [Tensor<B, 2>; 4],
    lows: [Low<B>; 4],
    wants_input: bool,
}

impl<B: FusedOps> DeltaProjections<B> {
    fn read<'a>(&'a self, convolved: &'a Tensor<B, 2>) -> DeltaInputs<'a, B> {
        DeltaInputs { qkv: convolved, decay: &self.decay, beta: &self.beta }
    }
}

/// ln(1 + eˣ), which does not overflow.
fn softplus<B: FusedOps>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    x.clone().clamp_min(0.0) + x.abs().neg().exp().log1p()
}

impl<B: FusedOps> Engine<'_, B> {
    /// What a layer keeps of each prompt of a pack that has nothing but prompts.
    pub(crate) fn delta_memory(&self, layer: usize, delta: &Delta<B>, prompts: &[Segment]) -> DeltaMemory<B> {
        let shape = delta_shape(self.config, layer);
        let (before, width) = (sizes(self.config, layer).taps - 1, shape.width());
        let states = B::delta_states(&shape, prompts, delta.inputs.read(&delta.convolved));
        let qkv = &delta.inputs.qkv;
        let tails = prompts.iter().map(|prompt| {
            let count = prompt.rows.len().min(before);
            let last = qkv.clone().narrow(0, prompt.rows.end - count, count);
            let missing = Tensor::zeros([before - count, width], (self.device, qkv.dtype()));
            Tensor::cat(vec![missing, last], 0).reshape([1, before * width])
        });
        DeltaMemory { tail: Tensor::cat(tails.collect(), 0), state: states.reshape([prompts.len(), shape.state_len()]) }
    }

    /// Takes a token of each sequence through a layer, [S, D] to the input of the output projection; updates what is kept.
    pub(crate) fn delta_step(&self, layer: usize, x: &Tensor<B, 2>, memory: &mut DeltaMemory<B>) -> Tensor<B, 2> {
        let shape = delta_shape(self.config, layer);
        let (count, width, taps) = (x.dims()[0], shape.width(), sizes(self.config, layer).taps);
        let inputs = self.delta_projections(layer, x);
        let seen = Tensor::cat(vec![memory.tail.clone(), inputs.qkv.clone()], 1);
        memory.tail = seen.clone().narrow(1, width, (taps - 1) * width);
        // burn-tch takes a transpose that nobody else holds for memory of its own: with one sequence it would write the products
        // into the parameter.
        let weight = self.params[self.delta_ids(layer).convolution].clone().reshape([width, taps]).transpose();
        let sums = (in_float32(seen).reshape([count, taps, width]) * weight.clone().unsqueeze::<3>()).sum_dim(1);
        let convolved = in_dtype(silu(sums.reshape([count, width])), x.dtype());
        let token = plain::DeltaToken::all(&shape, [convolved, inputs.decay, inputs.beta]);
        let heads = [count * shape.value_heads, shape.key_dim, shape.value_dim];
        let (state, out) = token.step(memory.state.clone().reshape(heads));
        memory.state = state.reshape([count, shape.state_len()]);
        let out = in_dtype(out.reshape([count, shape.values_width()]), x.dtype());
        self.gated_norm(layer, &inputs.gate, &out)
    }
}
