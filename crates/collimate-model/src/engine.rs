//! The decoder over packed tokens, forward and backward, made of a backend's fused operations.
//!
//! No graph is recorded: [`Engine::block`] returns what its way back reads, and [`Engine::block_backward`] adds each
//! parameter's gradient to where it is held. Running a block again gives the same bits, so activations may be kept or
//! computed again as memory allows.

mod backward;
mod experts;
mod feed_forward;
mod linear;

use burn::tensor::{DType, Int, Tensor, TensorData};
use collimate_backend::{AttentionPlan, AttentionShape, ComputeDtype, FusedOps, Gradient, Rotary, Segment};
use collimate_text::GroupBatch;
use half::bf16;

use self::feed_forward::FeedForward;
use crate::dropout::Dropout;
use crate::layout::{LayerIds, Layout, LinearIds};
use crate::rope::Rope;
use crate::routing::{BalanceGradient, Routing};
use crate::segments::segments;
use collimate_hf::ModelConfig;

/// What a pass reads besides its input: the parameters and how to read them.
pub(crate) struct Engine<'a, B: FusedOps> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) layout: &'a Layout,
    pub(crate) params: &'a [Tensor<B, 2>],
    /// The type of activations.
    pub(crate) dtype: ComputeDtype,
    /// α/r of the adapter, or `None` to leave adapters out.
    pub(crate) adapter_scale: Option<f64>,
    pub(crate) dropout: Option<&'a Dropout>,
    /// Which of the pack's rows it works on; `None` for all.
    pub(crate) rows: Option<&'a [u32]>,
}

/// The tensors of a pack that all blocks read.
pub(crate) struct PackInputs<B: FusedOps> {
    /// [N].
    pub(crate) tokens: Tensor<B, 1, Int>,
    pub(crate) rotary: Rotary<B>,
    pub(crate) attention: B::Attention,
}

impl<B: FusedOps> PackInputs<B> {
    pub(crate) fn new(batch: &GroupBatch, config: &ModelConfig, rope: &Rope, device: &B::Device) -> Self {
        let num_rows = batch.num_tokens();
        // Rows that are there for their number attend to each other, and nobody reads them; a router would count them.
        let room = if config.experts.is_some() { num_rows } else { B::pack_rows(num_rows) };
        let (mut tokens, mut positions) = (batch.tokens.clone(), batch.positions.clone());
        tokens.resize(room, 0);
        positions.resize(room, 0);
        let mut segments = segments(batch);
        if room > num_rows {
            segments.push(Segment { context: 0..0, rows: num_rows..room });
        }
        let tokens: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
        Self {
            tokens: Tensor::from_data(TensorData::new(tokens, [room]), device),
            rotary: rotary(rope, &positions, device),
            attention: AttentionPlan::new(&segments, &attention_shape(config, 0), &config.layer_windows, device),
        }
    }
}

/// Cosines and sines of positions.
pub(crate) fn rotary<B: FusedOps>(rope: &Rope, positions: &[u32], device: &B::Device) -> Rotary<B> {
    let (cos, sin) = rope.tables(positions);
    Rotary::new(cos, sin, positions.len(), rope.head_dim, device)
}

/// Rotated queries, keys and values of a block, and what their way back reads.
pub(crate) struct Projections<B: FusedOps> {
    /// [N, H · head_dim].
    pub(crate) q: Tensor<B, 2>,
    /// [N, H_kv · head_dim].
    pub(crate) k: Tensor<B, 2>,
    /// [N, H_kv · head_dim].
    pub(crate) v: Tensor<B, 2>,
    /// Queries and keys before their norms, where the model has any.
    raw: Option<(Tensor<B, 2>, Tensor<B, 2>)>,
    lows: Vec<Low<B>>,
}

/// What LoRA's factor A gives, [N, r], where the layer has an adapter.
type Low<B> = Option<Tensor<B, 2>>;

/// What the way back through a block reads besides its input.
pub(crate) struct Activations<B: FusedOps> {
    pub(crate) projections: Projections<B>,
    attended: Tensor<B, 2>,
    lse: Tensor<B, 2>,
    second: SecondHalf<B>,
}

impl<B: FusedOps> Activations<B> {
    /// The router's choices, where the block has experts.
    pub(crate) fn routing(&self) -> Option<&Routing> {
        match &self.second.feed_forward {
            FeedForward::Dense { .. } => None,
            FeedForward::Experts(mixture) => Some(&mixture.routing),
        }
    }
}

/// What the way back reads of a block from attention's output on.
pub(crate) struct SecondHalf<B: FusedOps> {
    /// The output projection's result, [N, D], where a norm follows it.
    projected: Option<Tensor<B, 2>>,
    low_o: Low<B>,
    /// The stream after attention, [N, D].
    middle: Tensor<B, 2>,
    feed_forward: FeedForward<B>,
}

impl<B: FusedOps> Engine<'_, B> {
    /// Token embeddings, [N] → [N, D].
    pub(crate) fn embed(&self, tokens: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        let rows = self.params[self.layout.embedding].clone().select(0, tokens);
        self.scaled_embedding(rows)
    }

    /// Times the embeddings' factor: an embedding's on the way forward, its gradient's on the way back.
    ///
    /// Reference implementations round the factor to the type that they compute in.
    pub(crate) fn scaled_embedding(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        match self.config.embedding_scale {
            Some(scale) if self.dtype == ComputeDtype::Bfloat16 => rows.mul_scalar(bf16::from_f64(scale).to_f32()),
            Some(scale) => rows.mul_scalar(scale as f32),
            None => rows,
        }
    }

    /// A gradient of zero, to add to.
    pub(crate) fn zero_gradient(&self, parameter: usize) -> Tensor<B, 2> {
        let parameter = &self.params[parameter];
        Tensor::zeros(parameter.dims(), (&parameter.device(), DType::F32))
    }

    /// One block, [N, D] → [N, D], and what its way back reads.
    pub(crate) fn block(&self, layer: usize, x: &Tensor<B, 2>, pack: &PackInputs<B>) -> (Tensor<B, 2>, Activations<B>) {
        let (projections, attended, lse) = self.attend(layer, x, pack);
        let (y, second) = self.after_attention(layer, x, &attended);
        (y, Activations { projections, attended, lse, second })
    }

    /// What the way back through a block reads, once more and to the same bits; its output is not made again.
    pub(crate) fn activations(&self, layer: usize, x: &Tensor<B, 2>, pack: &PackInputs<B>) -> Activations<B> {
        let (projections, attended, lse) = self.attend(layer, x, pack);
        let ids = &self.layout.layers[layer];
        let (middle, low_o, projected) = self.added(&ids.o, &attended, x, ids.attention_norms.after);
        let feed_forward = self.feed_forward_again(ids, &middle);
        let second = SecondHalf { projected, low_o, middle, feed_forward };
        Activations { projections, attended, lse, second }
    }

    fn attend(
        &self,
        layer: usize,
        x: &Tensor<B, 2>,
        pack: &PackInputs<B>,
    ) -> (Projections<B>, Tensor<B, 2>, Tensor<B, 2>) {
        let projections = self.projections(layer, x, &pack.rotary);
        let Projections { q, k, v, .. } = &projections;
        let (attended, lse) = pack.attention.attend(&self.attention_shape(layer), q, k, v);
        (projections, attended, lse)
    }

    /// Norm, projections, norms of queries and keys, and rotation of a block.
    pub(crate) fn projections(&self, layer: usize, x: &Tensor<B, 2>, rotary: &Rotary<B>) -> Projections<B> {
        let ids = &self.layout.layers[layer];
        let h = self.normed(x, ids.attention_norms.before);
        let ([q, k, v], lows) = self.joint(&ids.qkv, &h);
        let (q, k, raw) = match (ids.q_norm, ids.k_norm) {
            (Some(q_norm), Some(k_norm)) => (self.norm(&q, q_norm), self.norm(&k, k_norm), Some((q, k))),
            _ => (q, k, None),
        };
        let [q, k] = [q, k].map(|x| self.rotated(layer, x, rotary, false));
        Projections { q, k, v, raw, lows }
    }

    /// Queries or keys, rotated where the layer does so; `inverse` for their gradient.
    fn rotated(&self, layer: usize, x: Tensor<B, 2>, rotary: &Rotary<B>, inverse: bool) -> Tensor<B, 2> {
        if self.config.rotated_layers[layer] { B::rotate(x, rotary, inverse) } else { x }
    }

    /// Output projection, residual, and the feed-forward layer with its residual.
    pub(crate) fn after_attention(
        &self,
        layer: usize,
        x: &Tensor<B, 2>,
        attended: &Tensor<B, 2>,
    ) -> (Tensor<B, 2>, SecondHalf<B>) {
        let ids = &self.layout.layers[layer];
        let (middle, low_o, projected) = self.added(&ids.o, attended, x, ids.attention_norms.after);
        let (y, feed_forward) = self.feed_forward(ids, &middle);
        (y, SecondHalf { projected, low_o, middle, feed_forward })
    }

    /// `onto` and a linear layer's output, which a norm may change before: the sum, what LoRA's A gives, and the output
    /// before that norm.
    fn added(
        &self,
        ids: &LinearIds,
        x: &Tensor<B, 2>,
        onto: &Tensor<B, 2>,
        norm: Option<usize>,
    ) -> (Tensor<B, 2>, Low<B>, Option<Tensor<B, 2>>) {
        if norm.is_none() && self.config.residual_scale.is_none() {
            let (sum, low) = self.linear(ids, x, Some(onto.clone()));
            return (sum, low, None);
        }
        let (out, low) = self.linear(ids, x, None);
        let normed = self.normed(&out, norm);
        (B::add(self.scaled_residual(normed), onto), low, norm.map(|_| out))
    }

    /// Times the residual factor: what half a block adds on the way forward, its gradient on the way back.
    fn scaled_residual(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        scaled(rows, self.config.residual_scale)
    }

    /// The final norm and the factor on logits, which commutes with the output layer. [M, D] → [M, D].
    pub(crate) fn final_norm(&self, x: &Tensor<B, 2>) -> Tensor<B, 2> {
        scaled(self.norm(x, self.layout.final_norm), self.config.logit_scale)
    }

    /// The gradient of the final norm's input; adds that of its weight.
    pub(crate) fn final_norm_backward(
        &self,
        x: &Tensor<B, 2>,
        d_out: Tensor<B, 2>,
        gradients: &mut Gradients<'_, B>,
    ) -> Tensor<B, 2> {
        self.norm_backward(x, self.layout.final_norm, scaled(d_out, self.config.logit_scale), gradients)
    }

    fn norm(&self, x: &Tensor<B, 2>, weight: usize) -> Tensor<B, 2> {
        B::rms_norm(x, &self.norm_weight(weight), self.config.rms_norm_eps)
    }

    /// The norm of `x`, or `x` where there is none.
    fn normed(&self, x: &Tensor<B, 2>, weight: Option<usize>) -> Tensor<B, 2> {
        weight.map_or_else(|| x.clone(), |weight| self.norm(x, weight))
    }

    /// What a norm multiplies by, [1, n].
    fn norm_weight(&self, weight: usize) -> Tensor<B, 2> {
        let stored = self.params[weight].clone();
        if self.config.norm_offset { stored.add_scalar(1.0) } else { stored }
    }

    fn attention_shape(&self, layer: usize) -> AttentionShape {
        attention_shape(self.config, layer)
    }
}

fn scaled<B: FusedOps>(rows: Tensor<B, 2>, scale: Option<f64>) -> Tensor<B, 2> {
    match scale {
        Some(scale) => rows.mul_scalar(scale as f32),
        None => rows,
    }
}

/// Sizes and rules of a layer's attention.
pub(crate) fn attention_shape(config: &ModelConfig, layer: usize) -> AttentionShape {
    AttentionShape {
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        scale: config.attention_scale as f32,
        window: config.layer_windows[layer],
        softcap: config.attention_softcap.map(|cap| cap as f32),
    }
}

/// Where gradients are added, parameter by parameter.
pub(crate) struct Gradients<'a, B: FusedOps> {
    pub(crate) trainable: &'a [bool],
    pub(crate) held: &'a mut [Gradient<B>],
    /// What the router's balance loss adds.
    pub(crate) balance: Option<&'a BalanceGradient>,
}

impl<B: FusedOps> Gradients<'_, B> {
    /// The gradient of a parameter, if it is trained.
    pub(crate) fn of(&mut self, id: usize) -> Option<&mut Gradient<B>> {
        self.trainable[id].then(|| &mut self.held[id])
    }

    /// Whether any of a block's parameters is trained.
    pub(crate) fn trains(&self, layer: &LayerIds) -> bool {
        layer.parameters().into_iter().any(|id| self.trainable[id])
    }
}
