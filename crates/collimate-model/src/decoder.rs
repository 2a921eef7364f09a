//! The decoder as a pure function of its parameters, over packed tokens.
//!
//! One code for every burn backend, with or without gradients: the parameters come as a list of tensors.

use burn::tensor::activation::{gelu, sigmoid, tanh};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use crate::config::{Activation, ModelConfig};
use crate::dropout::Dropout;
use crate::layout::{LayerIds, Layout, LinearIds};
use crate::pack::{Pack, Tile};

/// What a block needs besides its input: the parameters and how to read them.
pub(crate) struct Decoder<'a, B: Backend> {
    pub(crate) config: &'a ModelConfig,
    pub(crate) layout: &'a Layout,
    pub(crate) params: &'a [Tensor<B, 2>],
    /// α/r of the adapter, or `None` to leave adapters out.
    pub(crate) adapter_scale: Option<f64>,
    pub(crate) dropout: Option<&'a Dropout>,
}

/// Queries, keys and values of a block after rotation: [N, H, head_dim] and twice [N, H_kv, head_dim].
pub(crate) struct Projections<B: Backend> {
    pub(crate) q: Tensor<B, 3>,
    pub(crate) k: Tensor<B, 3>,
    pub(crate) v: Tensor<B, 3>,
}

impl<B: Backend> Decoder<'_, B> {
    /// Token embeddings, [N] → [N, D].
    pub(crate) fn embed(&self, tokens: Tensor<B, 1, Int>) -> Tensor<B, 2> {
        self.params[self.layout.embedding].clone().select(0, tokens)
    }

    /// One block over packed tokens, [N, D] → [N, D].
    pub(crate) fn block(&self, layer: usize, x: Tensor<B, 2>, pack: &Pack<B>) -> Tensor<B, 2> {
        let projections = self.projections(layer, x.clone(), pack.cos.clone(), pack.sin.clone());
        let attended = self.attention(projections, pack, self.config.layer_windows[layer]);
        self.after_attention(layer, x, attended)
    }

    /// Norm, projections, head norms and rotation of a block.
    pub(crate) fn projections(
        &self,
        layer: usize,
        x: Tensor<B, 2>,
        cos: Tensor<B, 3>,
        sin: Tensor<B, 3>,
    ) -> Projections<B> {
        let ids = &self.layout.layers[layer];
        let head_dim = self.config.head_dim;
        let n = x.dims()[0];
        let h = self.norm(x, ids.input_norm);
        let heads = |linear: &LinearIds, count: usize| self.linear(linear, h.clone()).reshape([n, count, head_dim]);
        let q = self.head_norm(heads(&ids.q, self.config.num_attention_heads), ids.q_norm);
        let k = self.head_norm(heads(&ids.k, self.config.num_key_value_heads), ids.k_norm);
        let v = heads(&ids.v, self.config.num_key_value_heads);
        Projections { q: rotate(q, cos.clone(), sin.clone()), k: rotate(k, cos, sin), v }
    }

    /// Output projection, residual, and the feed-forward layer with its residual.
    pub(crate) fn after_attention(&self, layer: usize, x: Tensor<B, 2>, attended: Tensor<B, 2>) -> Tensor<B, 2> {
        let ids = &self.layout.layers[layer];
        let x = x + self.linear(&ids.o, attended);
        let h = self.norm(x.clone(), ids.post_norm);
        x + self.feed_forward(ids, h)
    }

    /// The final norm, [N, D] → [N, D].
    pub(crate) fn final_norm(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.norm(x, self.layout.final_norm)
    }

    /// Grouped-query attention inside each span, [N, H · head_dim].
    ///
    /// The plain form: scores of a tile of S spans are materialised, [S, H, n, n].
    pub(crate) fn attention(&self, p: Projections<B>, pack: &Pack<B>, window: Option<usize>) -> Tensor<B, 2> {
        // Scaled before rows are rearranged: flex runs over views several times slower.
        let p = Projections { q: p.q.mul_scalar(1.0 / (self.config.head_dim as f64).sqrt()), ..p };
        let outputs = pack.tiles.iter().map(|tile| self.attention_of_tile(&p, tile, tile.mask(window)));
        let outputs = Tensor::cat(outputs.collect(), 0);
        match &pack.restore {
            Some(places) => outputs.select(0, places.clone()),
            None => outputs,
        }
    }

    fn attention_of_tile(&self, p: &Projections<B>, tile: &Tile<B>, mask: Tensor<B, 4>) -> Tensor<B, 2> {
        let (heads, kv_heads, dim) =
            (self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim);
        let (count, n) = (tile.count, tile.len);
        let group = heads / kv_heads;
        // [N, heads, dim] to [S, heads, n, dim].
        let rows = |t: &Tensor<B, 3>| {
            let [_, heads, _] = t.dims();
            let t = match &tile.rows {
                Some(rows) => t.clone().select(0, rows.clone()),
                None => t.clone(),
            };
            t.reshape([count, n, heads, dim]).swap_dims(1, 2)
        };
        // Query heads of one key-value head stand below each other: one product serves the whole group.
        let q = rows(&p.q).reshape([count, kv_heads, group * n, dim]);
        let scores = q.matmul(rows(&p.k).swap_dims(2, 3)).reshape([count, heads, n, n]);
        let weights = softmax(scores + mask).reshape([count, kv_heads, group * n, n]);
        let mixed = weights.matmul(rows(&p.v)).reshape([count, heads, n, dim]);
        mixed.swap_dims(1, 2).reshape([count * n, heads * dim])
    }

    fn feed_forward(&self, ids: &LayerIds, h: Tensor<B, 2>) -> Tensor<B, 2> {
        let gate = self.linear(&ids.gate, h.clone());
        let up = self.linear(&ids.up, h);
        let gate = match self.config.hidden_act {
            Activation::Silu => gate.clone() * sigmoid(gate),
            Activation::Gelu => gelu(gate),
            Activation::GeluTanh => gelu_tanh(gate),
        };
        self.linear(&ids.down, gate * up)
    }

    /// `x W + bias + s (x A) B`; the frozen W of a LoRA layer gets no gradient because it is not tracked.
    fn linear(&self, ids: &LinearIds, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let mut y = x.clone().matmul(self.params[ids.weight].clone());
        if let Some(bias) = ids.bias {
            y = y + self.params[bias].clone();
        }
        if let (Some(lora), Some(scale)) = (&ids.lora, self.adapter_scale) {
            let x = match self.dropout {
                Some(dropout) => dropout.apply(x, ids.number),
                None => x,
            };
            let low = x.matmul(self.params[lora.a].clone());
            y = y + low.matmul(self.params[lora.b].clone()).mul_scalar(scale);
        }
        y
    }

    fn norm(&self, x: Tensor<B, 2>, weight: usize) -> Tensor<B, 2> {
        normalise(x, 1, self.config.rms_norm_eps) * self.params[weight].clone()
    }

    fn head_norm(&self, x: Tensor<B, 3>, weight: Option<usize>) -> Tensor<B, 3> {
        match weight {
            Some(id) => normalise(x, 2, self.config.rms_norm_eps) * self.params[id].clone().unsqueeze::<3>(),
            None => x,
        }
    }
}

/// `x / sqrt(mean(x²) + eps)` over `dim`.
fn normalise<B: Backend, const D: usize>(x: Tensor<B, D>, dim: usize, eps: f64) -> Tensor<B, D> {
    let mean_square = (x.clone() * x.clone()).mean_dim(dim);
    x * mean_square.add_scalar(eps).sqrt().recip()
}

/// Rotates the halves of each head: (a, b) → (a cos − b sin, b cos + a sin).
pub(crate) fn rotate<B: Backend>(x: Tensor<B, 3>, cos: Tensor<B, 3>, sin: Tensor<B, 3>) -> Tensor<B, 3> {
    let half = x.dims()[2] / 2;
    let (a, b) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    let second = b * cos + a * sin;
    Tensor::cat(vec![first, second], 2)
}

/// Softmax over the last dimension.
///
/// Not burn's: a backend's own kernel serves the plain backend only, so with it policy and reference would differ by
/// 1e-5 nats a response while they are the same model, and implicit rewards would not begin at zero.
fn softmax<B: Backend>(scores: Tensor<B, 4>) -> Tensor<B, 4> {
    let highest = scores.clone().max_dim(3).detach();
    let weights = (scores - highest).exp();
    let total = weights.clone().sum_dim(3);
    weights / total
}

fn gelu_tanh<B: Backend>(x: Tensor<B, 2>) -> Tensor<B, 2> {
    let cubic = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cubic.mul_scalar(0.044715)).mul_scalar((2.0 / std::f64::consts::PI).sqrt());
    x.mul_scalar(0.5) * tanh(inner).add_scalar(1.0)
}
