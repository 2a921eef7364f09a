//! The decoder over packed tokens, forward and backward, made of a backend's fused operations.
//!
//! No graph is recorded: [`Engine::block`] returns what its way back reads, and [`Engine::block_backward`] adds each
//! parameter's gradient to where it is held. Running a block again gives the same bits, so activations may be kept or
//! computed again as memory allows.

mod backward;
mod linear;

use burn::tensor::{Int, Tensor, TensorData};
use collimate_backend::{AttentionPlan, AttentionShape, FusedOps, GateActivation, Gradient, Rotary};
use collimate_data::GroupBatch;

use crate::config::{Activation, ModelConfig};
use crate::dropout::Dropout;
use crate::layout::{LayerIds, Layout, LinearIds};
use crate::rope::Rope;
use crate::segments::segments;

/// What a pass reads besides its input: the parameters and how to read them.
pub(crate) struct Engine<'a, B: FusedOps> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) layout: &'a Layout,
    pub(crate) params: &'a [Tensor<B, 2>],
    /// α/r of the adapter, or `None` to leave adapters out.
    pub(crate) adapter_scale: Option<f64>,
    pub(crate) dropout: Option<&'a Dropout>,
}

/// The tensors of a pack that all blocks read.
pub(crate) struct PackInputs<B: FusedOps> {
    /// [N].
    pub(crate) tokens: Tensor<B, 1, Int>,
    pub(crate) rotary: Rotary<B>,
    pub(crate) plan: AttentionPlan<B>,
}

impl<B: FusedOps> PackInputs<B> {
    pub(crate) fn new(batch: &GroupBatch, config: &ModelConfig, rope: &Rope, device: &B::Device) -> Self {
        let tokens: Vec<i32> = batch.tokens.iter().map(|&token| token as i32).collect();
        Self {
            tokens: Tensor::from_data(TensorData::new(tokens, [batch.num_tokens()]), device),
            rotary: rotary(rope, &batch.positions, device),
            plan: AttentionPlan::new(segments(batch), &config.layer_windows, config.num_attention_heads, device),
        }
    }
}

/// Cosines and sines of positions.
pub(crate) fn rotary<B: FusedOps>(rope: &Rope, positions: &[u32], device: &B::Device) -> Rotary<B> {
    let (cos, sin) = rope.tables(positions);
    Rotary::new(cos, sin, positions.len(), device)
}

/// Rotated queries, keys and values of a block, and what their way back reads.
pub(crate) struct Projections<B: FusedOps> {
    /// [N, H · head_dim].
    pub(crate) q: Tensor<B, 2>,
    /// [N, H_kv · head_dim].
    pub(crate) k: Tensor<B, 2>,
    /// [N, H_kv · head_dim].
    pub(crate) v: Tensor<B, 2>,
    /// Queries and keys before their head norms, where the model has any.
    raw: Option<(Tensor<B, 2>, Tensor<B, 2>)>,
    lows: [Low<B>; 3],
}

/// What LoRA's factor A gives, [N, r], where the layer has an adapter.
type Low<B> = Option<Tensor<B, 2>>;

/// What the way back through a block reads besides its input.
pub(crate) struct Activations<B: FusedOps> {
    pub(crate) projections: Projections<B>,
    attended: Tensor<B, 2>,
    lse: Tensor<B, 2>,
    low_o: Low<B>,
    feed_forward: FeedForward<B>,
}

/// What the way back through the second half of a block reads.
pub(crate) struct FeedForward<B: FusedOps> {
    /// The stream after attention, [N, D].
    middle: Tensor<B, 2>,
    gate: Tensor<B, 2>,
    up: Tensor<B, 2>,
    lows: [Low<B>; 3],
}

impl<B: FusedOps> Engine<'_, B> {
    /// Token embeddings, [N] → [N, D].
    pub(crate) fn embed(&self, tokens: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        self.params[self.layout.embedding].clone().select(0, tokens)
    }

    /// One block, [N, D] → [N, D], and what its way back reads.
    pub(crate) fn block(&self, layer: usize, x: &Tensor<B, 2>, pack: &PackInputs<B>) -> (Tensor<B, 2>, Activations<B>) {
        let (projections, attended, lse) = self.attend(layer, x, pack);
        let (y, low_o, feed_forward) = self.after_attention(layer, x, &attended);
        (y, Activations { projections, attended, lse, low_o, feed_forward })
    }

    /// What the way back through a block reads, once more and to the same bits; its output is not made again.
    pub(crate) fn activations(&self, layer: usize, x: &Tensor<B, 2>, pack: &PackInputs<B>) -> Activations<B> {
        let (projections, attended, lse) = self.attend(layer, x, pack);
        let (activated, low_o, mut feed_forward) = self.before_down(layer, x, &attended);
        feed_forward.lows[2] = self.low(&self.layout.layers[layer].down, &activated);
        Activations { projections, attended, lse, low_o, feed_forward }
    }

    fn attend(
        &self,
        layer: usize,
        x: &Tensor<B, 2>,
        pack: &PackInputs<B>,
    ) -> (Projections<B>, Tensor<B, 2>, Tensor<B, 2>) {
        let projections = self.projections(layer, x, &pack.rotary);
        let Projections { q, k, v, .. } = &projections;
        let (attended, lse) = B::packed_attention(&self.attention_shape(layer), &pack.plan, q, k, v);
        (projections, attended, lse)
    }

    /// Norm, projections, head norms and rotation of a block.
    pub(crate) fn projections(&self, layer: usize, x: &Tensor<B, 2>, rotary: &Rotary<B>) -> Projections<B> {
        let ids = &self.layout.layers[layer];
        let h = self.norm(x, ids.input_norm);
        let (q, low_q) = self.linear(&ids.q, &h, None);
        let (k, low_k) = self.linear(&ids.k, &h, None);
        let (v, low_v) = self.linear(&ids.v, &h, None);
        let (q, k, raw) = match (ids.q_norm, ids.k_norm) {
            (Some(q_norm), Some(k_norm)) => (self.norm(&q, q_norm), self.norm(&k, k_norm), Some((q, k))),
            _ => (q, k, None),
        };
        Projections {
            q: B::rotate(q, rotary, false),
            k: B::rotate(k, rotary, false),
            v,
            raw,
            lows: [low_q, low_k, low_v],
        }
    }

    /// Output projection, residual, and the feed-forward layer with its residual.
    pub(crate) fn after_attention(
        &self,
        layer: usize,
        x: &Tensor<B, 2>,
        attended: &Tensor<B, 2>,
    ) -> (Tensor<B, 2>, Low<B>, FeedForward<B>) {
        let (activated, low_o, mut feed_forward) = self.before_down(layer, x, attended);
        let down = &self.layout.layers[layer].down;
        let (y, low_down) = self.linear(down, &activated, Some(feed_forward.middle.clone()));
        feed_forward.lows[2] = low_down;
        (y, low_o, feed_forward)
    }

    /// Everything of [`Engine::after_attention`] before the last product: what that multiplies, and what the way back
    /// reads but for that product's own.
    fn before_down(
        &self,
        layer: usize,
        x: &Tensor<B, 2>,
        attended: &Tensor<B, 2>,
    ) -> (Tensor<B, 2>, Low<B>, FeedForward<B>) {
        let ids = &self.layout.layers[layer];
        let (middle, low_o) = self.linear(&ids.o, attended, Some(x.clone()));
        let h = self.norm(&middle, ids.post_norm);
        let (gate, low_gate) = self.linear(&ids.gate, &h, None);
        let (up, low_up) = self.linear(&ids.up, &h, None);
        let activated = B::gated(self.activation(), &gate, &up);
        (activated, low_o, FeedForward { middle, gate, up, lows: [low_gate, low_up, None] })
    }

    /// The final norm, [M, D] → [M, D].
    pub(crate) fn final_norm(&self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        self.norm(x, self.layout.final_norm)
    }

    fn norm(&self, x: &Tensor<B, 2>, weight: usize) -> Tensor<B, 2> {
        B::rms_norm(x, &self.params[weight], self.config.rms_norm_eps)
    }

    fn attention_shape(&self, layer: usize) -> AttentionShape {
        AttentionShape {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            scale: (1.0 / (self.config.head_dim as f64).sqrt()) as f32,
            window: self.config.layer_windows[layer],
            softcap: None,
        }
    }

    fn activation(&self) -> GateActivation {
        match self.config.hidden_act {
            Activation::Silu => GateActivation::Silu,
            Activation::Gelu => GateActivation::Gelu,
            Activation::GeluTanh => GateActivation::GeluTanh,
        }
    }
}

/// Where gradients are added, parameter by parameter.
pub(crate) struct Gradients<'a, B: FusedOps> {
    pub(crate) trainable: &'a [bool],
    pub(crate) held: &'a mut [Gradient<B>],
}

impl<B: FusedOps> Gradients<'_, B> {
    /// The gradient of a parameter, if it is trained.
    pub(crate) fn of(&mut self, id: usize) -> Option<&mut Gradient<B>> {
        self.trainable[id].then(|| &mut self.held[id])
    }

    /// Whether any of a block's parameters is trained.
    pub(crate) fn trains(&self, layer: &LayerIds) -> bool {
        let linears = [&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down];
        let norms = [Some(layer.input_norm), Some(layer.post_norm), layer.q_norm, layer.k_norm];
        let of_linear = |ids: &&LinearIds| {
            let lora = ids.lora.as_ref().map(|lora| [lora.a, lora.b]);
            [Some(ids.weight), ids.bias].into_iter().flatten().chain(lora.into_iter().flatten()).collect::<Vec<_>>()
        };
        linears.iter().flat_map(of_linear).chain(norms.into_iter().flatten()).any(|id| self.trainable[id])
    }
}
