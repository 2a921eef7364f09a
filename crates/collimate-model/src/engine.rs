//! The decoder over packed tokens, forward and backward, composed of a backend's [`FusedOps`].
//!
//! No autodiff graph is recorded: [`Engine::block`] returns what its backward pass reads, and [`Engine::block_backward`]
//! accumulates each parameter's gradient. Recomputing a block gives the same bits, so activations may be kept or
//! recomputed as memory allows.

mod backward;
mod delta;
mod dora;
mod embedding;
mod experts;
mod feed_forward;
mod gated;
mod gradients;
mod head;
mod linear;
mod mixer;
mod pack;
mod shared_expert;

use burn::tensor::{DType, Tensor};
use collimate_backend::{ComputeDtype, FusedOps};
use collimate_hf::ModelConfig;
use collimate_routing::Routing;

pub(crate) use self::delta::DeltaMemory;
#[cfg(test)]
pub(crate) use self::delta::delta_shape;
use self::feed_forward::FeedForward;
pub(crate) use self::gradients::Gradients;
pub(crate) use self::head::HeadTape;
use self::linear::Low;
pub(crate) use self::mixer::{Mixer, Projections};
pub(crate) use self::pack::{PackInputs, Rotations, attention_shape};
use crate::dropout::{Addition, Dropout};
use crate::parameter_index::{LinearIds, ModelIds};

/// What a pass reads besides its input: the parameters and options.
pub(crate) struct Engine<'a, B: FusedOps> {
    pub(crate) config: &'a ModelConfig,
    /// The parameters to read: with the adapter's or without.
    pub(crate) index: &'a ModelIds,
    pub(crate) params: &'a [Tensor<B, 2>],
    /// Weights that are held packed.
    pub(crate) packed: &'a [Option<B::Packed>],
    pub(crate) device: &'a B::Device,
    /// The dtype of activations.
    pub(crate) dtype: ComputeDtype,
    pub(crate) dropout: Option<&'a Dropout>,
    /// The rows of the pack to work on; `None` for all.
    pub(crate) rows: Option<&'a [u32]>,
}

/// What a block's backward pass reads.
pub(crate) struct Activations<B: FusedOps> {
    input: Tensor<B, 2>,
    pub(crate) mixer: Mixer<B>,
    second: SecondHalf<B>,
}

impl<B: FusedOps> Activations<B> {
    /// The router's choices, if the block has experts.
    pub(crate) fn routing(&self) -> Option<&Routing> {
        match &self.second.feed_forward {
            FeedForward::Dense { .. } => None,
            FeedForward::Experts(mixture) => Some(&mixture.routing),
        }
    }

    /// Drops everything but the block's input.
    pub(crate) fn into_input(self) -> Tensor<B, 2> {
        self.input
    }
}

/// What the backward pass reads from the part of a block after attention.
pub(crate) struct SecondHalf<B: FusedOps> {
    /// The output projection's result, [N, D], if a norm follows it.
    projected: Option<Tensor<B, 2>>,
    low_o: Low<B>,
    /// The residual stream after attention, [N, D].
    middle: Tensor<B, 2>,
    feed_forward: FeedForward<B>,
}

/// What the backward pass of a block's first half is given.
struct FirstHalf<'a, B: FusedOps, F> {
    /// The gradient of the output projection's input.
    d_mixed: Tensor<B, 2>,
    /// Recomputes the normed input.
    h: F,
    pack: &'a PackInputs<B>,
    /// Whether the gradient of the normed input is wanted.
    wants_input: bool,
}

/// A linear layer's output added to the residual stream.
struct Added<B: FusedOps> {
    sum: Tensor<B, 2>,
    low: Low<B>,
    /// The output before its norm, if there is one.
    unnormed: Option<Tensor<B, 2>>,
}

impl<B: FusedOps> Engine<'_, B> {
    /// A zero gradient for a parameter.
    pub(crate) fn zero_gradient(&self, parameter: usize) -> Tensor<B, 2> {
        Tensor::zeros(self.params[parameter].dims(), (self.device, DType::F32))
    }

    /// One block, [N, D] → [N, D], with what its backward pass reads.
    pub(crate) fn block(&self, layer: usize, x: Tensor<B, 2>, pack: &PackInputs<B>) -> (Tensor<B, 2>, Activations<B>) {
        let mixer = self.mix(layer, &x, pack);
        let (y, second) = self.after_attention(layer, &x, &self.mixed(layer, &mixer));
        (y, Activations { input: x, mixer, second })
    }

    /// Recomputes what a block's backward pass reads, bit-identically, without the block's output.
    pub(crate) fn activations(&self, layer: usize, x: Tensor<B, 2>, pack: &PackInputs<B>) -> Activations<B> {
        let mixer = self.mix(layer, &x, pack);
        let ids = &self.index.layers[layer];
        let what = Addition::Attention(layer);
        let added = self.add_linear(&ids.o, &self.mixed(layer, &mixer), &x, ids.attention_norms.after, what);
        let feed_forward = self.feed_forward_again(ids, &added.sum);
        let second = SecondHalf { projected: added.unnormed, low_o: added.low, middle: added.sum, feed_forward };
        Activations { input: x, mixer, second }
    }

    /// The output projection and the feed-forward layer, each with its residual.
    pub(crate) fn after_attention(
        &self,
        layer: usize,
        x: &Tensor<B, 2>,
        mixed: &Tensor<B, 2>,
    ) -> (Tensor<B, 2>, SecondHalf<B>) {
        let ids = &self.index.layers[layer];
        let added = self.add_linear(&ids.o, mixed, x, ids.attention_norms.after, Addition::Attention(layer));
        let (y, feed_forward) = self.feed_forward(layer, &added.sum);
        (y, SecondHalf { projected: added.unnormed, low_o: added.low, middle: added.sum, feed_forward })
    }

    /// Adds a linear layer's output to the residual stream, after its norm and residual scale, if any.
    fn add_linear(
        &self,
        ids: &LinearIds,
        x: &Tensor<B, 2>,
        stream: &Tensor<B, 2>,
        norm: Option<usize>,
        what: Addition,
    ) -> Added<B> {
        let drops = self.dropout.is_some_and(Dropout::drops_numbers);
        if norm.is_none() && self.config.residual_scale.is_none() && !drops {
            let (sum, low) = self.linear(ids, x, Some(stream.clone()));
            return Added { sum, low, unnormed: None };
        }
        let (out, low) = self.linear(ids, x, None);
        let normed = self.normed(&out, norm);
        let added = self.thinned(self.scaled_residual(normed), what);
        Added { sum: B::add(added, stream), low, unnormed: norm.map(|_| out) }
    }

    /// Applies the residual scale to half a block's contribution to the stream, or to its gradient.
    fn scaled_residual(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        scaled(rows, self.config.residual_scale)
    }

    /// Applies dropout to what is added to the stream, or to its gradient.
    pub(crate) fn thinned(&self, rows: Tensor<B, 2>, what: Addition) -> Tensor<B, 2> {
        match self.dropout {
            Some(dropout) => dropout.apply_to(rows, what),
            None => rows,
        }
    }

    /// The final norm and the logit scale, which commutes with the output layer, [M, D] → [M, D].
    pub(crate) fn final_norm(&self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        scaled(self.norm(x, self.index.final_norm), self.config.logit_scale)
    }

    fn norm(&self, x: &Tensor<B, 2>, weight: usize) -> Tensor<B, 2> {
        B::rms_norm(x, &self.norm_weight(weight), self.config.rms_norm_eps)
    }

    /// The norm of `x`, or `x` itself if there is none.
    fn normed(&self, x: &Tensor<B, 2>, weight: Option<usize>) -> Tensor<B, 2> {
        weight.map_or_else(|| x.clone(), |weight| self.norm(x, weight))
    }

    /// The weight of a norm, [1, n].
    fn norm_weight(&self, weight: usize) -> Tensor<B, 2> {
        let stored = self.params[weight].clone();
        if self.config.norm_offset { stored.add_scalar(1.0) } else { stored }
    }
}

fn scaled<B: FusedOps>(rows: Tensor<B, 2>, scale: Option<f64>) -> Tensor<B, 2> {
    match scale {
        Some(scale) => rows.mul_scalar(scale as f32),
        None => rows,
    }
}
