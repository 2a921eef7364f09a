//! The first half of a block, where tokens read each other: attention, or a Gated DeltaNet.

use burn::tensor::Tensor;
use collimate_backend::{AttentionMap, AttentionSaved, FusedOps, GateActivation, plain, sinks_backward};

use super::FirstHalf;
use super::delta::Delta;
use super::linear::Low;
use super::{Engine, Gradients, PackInputs, Rotations, attention_shape};

/// What the backward pass reads of a block's first half.
pub(crate) enum Mixer<B: FusedOps> {
    Attention(Attention<B>),
    Delta(Delta<B>),
}

/// Attention, and what its backward pass reads.
pub(crate) struct Attention<B: FusedOps> {
    pub(crate) projections: Projections<B>,
    /// The output, [N, H · head_dim], before its gate.
    out: Tensor<B, 2>,
    /// The log-sum-exps that the backward pass reads.
    lse: Tensor<B, 2>,
}

/// A block's rotated queries, keys and values, and what their backward pass reads.
pub(crate) struct Projections<B: FusedOps> {
    /// [N, H · head_dim].
    pub(crate) q: Tensor<B, 2>,
    /// [N, H_kv · head_dim].
    pub(crate) k: Tensor<B, 2>,
    /// [N, H_kv · head_dim].
    pub(crate) v: Tensor<B, 2>,
    /// What the output is multiplied by, before its sigmoid, [N, H · head_dim], if the model has gates.
    pub(crate) gate: Option<Tensor<B, 2>>,
    /// Queries and keys before their norms, if the model has any.
    unnormed: Option<(Tensor<B, 2>, Tensor<B, 2>)>,
    lows: Vec<Low<B>>,
}

impl<B: FusedOps> Engine<'_, B> {
    /// What the tokens of a block read of each other.
    pub(super) fn mix(&self, layer: usize, x: &Tensor<B, 2>, pack: &PackInputs<B>) -> Mixer<B> {
        if self.index.layers[layer].delta.is_some() {
            return Mixer::Delta(self.delta(layer, x, &pack.segments));
        }
        let projections = self.projections(layer, x, &pack.rotations);
        let Projections { q, k, v, .. } = &projections;
        let shape = attention_shape(self.config, layer);
        let (out, lse) = match self.index.layers[layer].sinks {
            None => pack.attention.attend(&shape, q, k, v),
            Some(sinks) => pack.attention.attend_with_sinks(&shape, [q, k, v], &self.params[sinks]),
        };
        Mixer::Attention(Attention { projections, out, lse })
    }

    /// The input of a block's output projection.
    pub(super) fn mixed(&self, layer: usize, mixer: &Mixer<B>) -> Tensor<B, 2> {
        match mixer {
            Mixer::Attention(attention) => self.gated_output(attention.projections.gate.as_ref(), &attention.out),
            Mixer::Delta(delta) => self.delta_output(layer, delta),
        }
    }

    /// Attention's output times its gate, if there is one.
    pub(crate) fn gated_output(&self, gate: Option<&Tensor<B, 2>>, out: &Tensor<B, 2>) -> Tensor<B, 2> {
        gate.map_or_else(|| out.clone(), |gate| B::gated(GateActivation::Sigmoid, gate, out))
    }

    /// A block's first norm, projections, norms of queries and keys, and rotation.
    pub(crate) fn projections(&self, layer: usize, x: &Tensor<B, 2>, rotations: &Rotations<B>) -> Projections<B> {
        let ids = &self.index.layers[layer];
        let h = self.normed(x, ids.attention_norms.before);
        let ([q, k, v], lows) = self.joint(&ids.qkv, &h);
        let (q, gate) = match self.config.attention_gate {
            true => {
                let [q, gate] = self.apart(&q);
                (q, Some(gate))
            }
            false => (q, None),
        };
        let (q, k, unnormed) = match (ids.q_norm, ids.k_norm) {
            (Some(q_norm), Some(k_norm)) => (self.norm(&q, q_norm), self.norm(&k, k_norm), Some((q, k))),
            _ => (q, k, None),
        };
        let [q, k] = self.rotated(layer, [q, k], rotations, false);
        Projections { q, k, v, gate, unnormed, lows }
    }

    /// Rotates queries and keys if the layer does; `inverse` for their gradients.
    fn rotated(
        &self,
        layer: usize,
        [q, k]: [Tensor<B, 2>; 2],
        rotations: &Rotations<B>,
        inverse: bool,
    ) -> [Tensor<B, 2>; 2] {
        if !self.config.rotated_layers[layer] {
            return [q, k];
        }
        let [of_queries, of_keys] = rotations.of_layer(self.config, layer);
        if self.config.grid.is_none() {
            return [B::rotate(q, of_queries, inverse), B::rotate(k, of_keys, inverse)];
        }
        // Where neighbors are rotated, heads have first all first components and then all second ones from here on: the
        // products of queries and keys are the same.
        let halves = self.config.head_dim / 2;
        let rotate = |x: Tensor<B, 2>, rotary| match inverse {
            false => B::rotate(regrouped(x, halves, 2), rotary, false),
            true => regrouped(B::rotate(x, rotary, true), 2, halves),
        };
        [rotate(q, of_queries), rotate(k, of_keys)]
    }

    /// Gradients of rotated queries, keys and values; adds that of sinks.
    fn attended_backward(
        &self,
        layer: usize,
        saved: AttentionSaved<'_, B>,
        d_out: &Tensor<B, 2>,
        pack: &PackInputs<B>,
        gradients: &mut Gradients<'_, B>,
    ) -> [Tensor<B, 2>; 3] {
        let shape = attention_shape(self.config, layer);
        let Some(id) = self.index.layers[layer].sinks else {
            return pack.attention.attend_backward(&shape, saved, d_out);
        };
        let sinks = &self.params[id];
        if let Some(gradient) = gradients.get(id) {
            plain::accumulate(gradient, sinks_backward(sinks, saved.out, saved.lse, d_out));
        }
        pack.attention.attend_backward_with_sinks(&shape, saved, sinks, d_out)
    }

    /// The gradient of a block's normed input, given that of the output projection's input; skipped unless wanted.
    pub(super) fn attention_backward(
        &self,
        layer: usize,
        attention: Attention<B>,
        half: FirstHalf<'_, B, impl FnOnce() -> Tensor<B, 2>>,
        gradients: &mut Gradients<'_, B>,
    ) -> Option<Tensor<B, 2>> {
        let FirstHalf { d_mixed, h, pack, wants_input } = half;
        let ids = &self.index.layers[layer];
        let Attention { projections, out, lse } = attention;
        let Projections { q, k, v, gate, unnormed, lows } = projections;
        let (d_gate, d_out) = match gate {
            Some(gate) => {
                let (d_gate, d_out) = B::gated_backward(GateActivation::Sigmoid, gate, out.clone(), &d_mixed);
                (Some(d_gate), d_out)
            }
            None => (None, d_mixed),
        };
        let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
        let [d_q, d_k, d_v] = self.attended_backward(layer, saved, &d_out, pack, gradients);
        drop((q, k, v, out, d_out));
        let [mut d_q, mut d_k] = self.rotated(layer, [d_q, d_k], &pack.rotations, true);
        if let (Some((q, k)), Some(q_norm), Some(k_norm)) = (&unnormed, ids.q_norm, ids.k_norm) {
            d_q = self.norm_backward(q, q_norm, d_q, gradients);
            d_k = self.norm_backward(k, k_norm, d_k, gradients);
        }
        if let Some(d_gate) = d_gate {
            d_q = self.together(d_q, d_gate);
        }
        let d_outputs = self.joint_gradients(&ids.qkv, &h(), [d_q, d_k, d_v], &lows, gradients);
        wants_input.then(|| self.joint_input_gradient(&ids.qkv, d_outputs))
    }

    /// Queries and gates, which stand side by side in each head.
    fn apart(&self, both: &Tensor<B, 2>) -> [Tensor<B, 2>; 2] {
        let (rows, heads, dim) = (both.dims()[0], self.config.num_attention_heads, self.config.head_dim);
        let by_head = both.clone().reshape([rows, heads, 2 * dim]);
        [0, dim].map(|start| by_head.clone().narrow(2, start, dim).reshape([rows, heads * dim]))
    }

    /// The gradient of what [`Engine::apart`] takes apart.
    fn together(&self, q: Tensor<B, 2>, gate: Tensor<B, 2>) -> Tensor<B, 2> {
        let (rows, heads, dim) = (q.dims()[0], self.config.num_attention_heads, self.config.head_dim);
        let by_head: Vec<Tensor<B, 3>> = [q, gate].map(|x| x.reshape([rows, heads, dim])).into();
        Tensor::cat(by_head, 2).reshape([rows, heads * 2 * dim])
    }
}

/// Turns `rows` lists of `columns` numbers each, of every head, into `columns` lists of `rows`, [N, H · rows · columns].
fn regrouped<B: FusedOps>(x: Tensor<B, 2>, rows: usize, columns: usize) -> Tensor<B, 2> {
    let [count, width] = x.dims();
    let by_head: Tensor<B, 4> = x.reshape([count, width / (rows * columns), rows, columns]);
    by_head.swap_dims(2, 3).reshape([count, width])
}
