//! A decoder built from burn's operations alone, for burn's automatic differentiation.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::tensor::activation::{log_softmax, sigmoid, silu, softmax, tanh};
use burn::tensor::{Int, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use collimate_backend::{AttentionMap, GateActivation, Rotary, Segment, plain};
use collimate_hf::{Activation, ClampedGate, Experts, RouterScores};
use collimate_text::GroupBatch;

use crate::CausalLm;
use crate::engine::{attention_shape, delta_shape};
use crate::host::floats;
use crate::parameter_index::{DeltaIds, ExpertIds, FeedForwardIds, GatedIds, JointIds, LinearIds};
use crate::segments::segments;
use crate::targets::Targets;
use collimate_rope::Rope;

type Tracked = Autodiff<Flex>;
type Matrix = Tensor<Tracked, 2>;

/// A decoder that shares only the parameters and their index with the engine.
pub(super) struct PlainDecoder<'a> {
    model: &'a CausalLm<Flex>,
    pub(super) params: Arc<Vec<Matrix>>,
    tiles: plain::Tiles<Tracked>,
    segments: Vec<Segment>,
    rotary: Rotary<Tracked>,
    /// Of layers with a window.
    window_rotary: Rotary<Tracked>,
    /// Factors on rotated queries, [N, 1].
    growth: Option<Matrix>,
}

impl<'a> PlainDecoder<'a> {
    pub(super) fn new(model: &'a CausalLm<Flex>, batch: &GroupBatch) -> Self {
        let trainable = model.trainable();
        let track = |(index, param): (usize, &Tensor<Flex, 2>)| {
            let param = Matrix::from_inner(param.clone());
            if trainable.contains(&index) { param.require_grad() } else { param }
        };
        let (config, segments) = (&model.config, segments(batch));
        let rotary = |rope: &Rope| {
            let (cos, sin) = rope.tables(&batch.positions);
            Rotary::new(cos, sin, batch.num_tokens(), config.head_dim, &FlexDevice)
        };
        let growth = model.ropes.query_factors(&batch.positions);
        let growth = growth.map(|factors| TensorData::new(factors, [batch.num_tokens(), 1]));
        Self {
            model,
            params: Arc::new(model.params.iter().enumerate().map(track).collect()),
            tiles: plain::Tiles::new(&segments, &attention_shape(config, 0), &config.layer_windows, &FlexDevice),
            segments,
            rotary: rotary(&model.ropes.full),
            window_rotary: rotary(model.ropes.windows.as_ref().unwrap_or(&model.ropes.full)),
            growth: growth.map(|factors| Tensor::from_data(factors, &FlexDevice)),
        }
    }

    /// `Σ c · logp` over all responses, plus `balance_weight` times the balance loss of the whole batch.
    pub(super) fn objective(
        &self,
        batch: &GroupBatch,
        coefficients: &[Vec<f64>],
        balance_weight: f64,
    ) -> Tensor<Tracked, 1> {
        let (index, config) = (&self.model.index.adapted, &self.model.config);
        let mut x = self.params[index.embedding].clone().select(0, ints(&batch.tokens));
        if let Some(lora) = &index.embedding_lora {
            let low = self.params[lora.a].clone().select(0, ints(&batch.tokens));
            x = x + low.matmul(self.params[lora.b].clone()).mul_scalar(lora.scale);
        }
        if let Some(scale) = config.embedding_scale {
            x = x.mul_scalar(scale);
        }
        let mut routed = Vec::new();
        for layer in 0..config.num_hidden_layers {
            x = self.block(layer, x, &mut routed);
        }
        let targets = Targets::new(batch);
        let normed = self.norm(x.select(0, ints(&targets.rows)), index.final_norm);
        let mut weight = self.params[index.head.weight].clone();
        if let Some(lora) = &index.head.lora {
            let product = self.params[lora.b].clone().matmul(self.params[lora.a].clone().transpose());
            weight = weight + product.mul_scalar(lora.scale);
            if let Some(magnitude) = lora.magnitude {
                let norms = weight.clone().powi_scalar(2).sum_dim(1).sqrt().detach();
                weight = weight * (self.params[magnitude].clone().transpose() / norms);
            }
        }
        let logits = normed.matmul(weight.transpose());
        let logits = logits.mul_scalar(config.logit_scale.unwrap_or(1.0));
        let logits = match config.logit_softcap {
            Some(cap) => tanh(logits.div_scalar(cap)).mul_scalar(cap),
            None => logits,
        };
        let logps = log_softmax(logits, 1).gather(1, ints(&targets.tokens).unsqueeze_dim(1));
        let spread = targets.spread(coefficients);
        let spread = TensorData::new(spread, [targets.rows.len(), 1]);
        let sum = (logps * Tensor::from_data(spread, &FlexDevice)).sum();
        if balance_weight == 0.0 { sum } else { sum + balance(batch, routed).mul_scalar(balance_weight) }
    }

    fn block(&self, layer: usize, x: Matrix, routed: &mut Vec<(Matrix, Matrix)>) -> Matrix {
        let ids = &self.model.index.adapted.layers[layer];
        let config = &self.model.config;
        let h = self.maybe_norm(x.clone(), ids.attention_norms.before);
        let mixed = match &ids.delta {
            Some(delta) => self.delta(layer, ids.qkv.linears(), delta, h),
            None => self.attention(layer, h),
        };
        let residual_scale = config.residual_scale.unwrap_or(1.0);
        let added = self.maybe_norm(self.linear(&ids.o, mixed), ids.attention_norms.after);
        let x = x + added.mul_scalar(residual_scale);
        let h = self.maybe_norm(x.clone(), ids.feed_forward_norm);
        match &ids.feed_forward {
            FeedForwardIds::Dense { layer, norm } => {
                x + self.maybe_norm(self.gated(layer, h), *norm).mul_scalar(residual_scale)
            }
            FeedForwardIds::Experts(ids) => x + self.experts(ids, h, routed).mul_scalar(residual_scale),
        }
    }

    /// Attention, with a gate on each head's output if the model has them.
    fn attention(&self, layer: usize, h: Matrix) -> Matrix {
        let (config, ids) = (&self.model.config, &self.model.index.adapted.layers[layer]);
        let [q, k, v] = self.joint(&ids.qkv, h);
        let rows = q.dims()[0];
        let (heads, dim) = (config.num_attention_heads, config.head_dim);
        let parts = q.dims()[1] / (heads * dim);
        let by_head = q.reshape([rows, heads, parts * dim]);
        let part = |index: usize| by_head.clone().narrow(2, index * dim, dim).reshape([rows, heads * dim]);
        let [q, k] = [(part(0), ids.q_norm), (k, ids.k_norm)].map(|(x, norm)| {
            let x = self.maybe_norm(x, norm);
            let rotary = if config.layer_windows[layer].is_some() { &self.window_rotary } else { &self.rotary };
            if config.rotated_layers[layer] { plain::rotate(x, rotary, false) } else { x }
        });
        let q = match &self.growth {
            Some(factors) => q * factors.clone(),
            None => q,
        };
        let sinks = ids.sinks.map(|sinks| &self.params[sinks]);
        let (attended, _) = self.tiles.attention(&attention_shape(config, layer), [q, k, v], sinks);
        if config.attention_gate { attended * sigmoid(part(1)) } else { attended }
    }

    /// A Gated DeltaNet, token by token.
    fn delta(&self, layer: usize, qkv: &[LinearIds], ids: &DeltaIds, h: Matrix) -> Matrix {
        let config = &self.model.config;
        let qkv = self.linear(&qkv[0], h.clone());
        let convolved = plain::convolution(qkv, self.params[ids.convolution].clone(), &self.segments);
        let step = self.linear(&ids.decay, h.clone()) + self.params[ids.decay_bias].clone();
        let softplus = step.exp().add_scalar(1.0).log();
        let decay = softplus * self.params[ids.decay_scale].clone().exp().neg();
        let beta = sigmoid(self.linear(&ids.beta, h.clone()));
        let out = plain::delta_rule(&delta_shape(config, layer), &self.segments, [convolved, decay, beta]);
        let normed = plain::rms_norm(out, self.params[ids.norm].clone(), config.rms_norm_eps);
        normed * silu(self.linear(&ids.gate, h))
    }

    fn gated(&self, ids: &GatedIds, h: Matrix) -> Matrix {
        let activation = match self.model.config.hidden_act {
            Activation::Silu => GateActivation::Silu,
            Activation::Gelu => GateActivation::Gelu,
            Activation::GeluTanh => GateActivation::GeluTanh,
        };
        let [gate, up] = self.joint(&ids.gate_up, h);
        let activated = match self.model.config.clamped_gate {
            None => plain::gated(activation, gate, up),
            Some(ClampedGate { alpha, limit }) => {
                let (gate, up) = (gate.clamp_max(limit), up.clamp(-limit, limit));
                gate.clone() * sigmoid(gate * alpha) * (up + 1.0)
            }
        };
        self.linear(&ids.down, activated)
    }

    /// Runs every expert on every token, with weight zero for experts that were not picked.
    fn experts(&self, ids: &ExpertIds, h: Matrix, routed: &mut Vec<(Matrix, Matrix)>) -> Matrix {
        let logits = self.linear(&ids.router, h.clone());
        let bias = ids.pick_bias.map_or(vec![0.0; ids.config.count], |id| floats(self.params[id].clone()));
        let (scores, probabilities) = match ids.config.scores {
            RouterScores::Softmax => (softmax(logits.clone(), 1), softmax(logits, 1)),
            RouterScores::Sigmoid => {
                let scores = sigmoid(logits);
                (scores.clone(), scores.clone() / scores.sum_dim(1))
            }
        };
        let picks = floats(scores.clone()).chunks(bias.len()).flat_map(|row| picked(row, &bias, &ids.config)).collect();
        let mask: Matrix = Tensor::from_data(TensorData::new::<f32, _>(picks, scores.dims()), &FlexDevice);
        let weights = scores * mask.clone();
        let weights = if ids.config.normalizes_weights { weights.clone() / weights.sum_dim(1) } else { weights };
        let weights = weights * ids.config.weight_scale;
        routed.push((probabilities, mask));
        let weighted = ids
            .experts
            .iter()
            .enumerate()
            .map(|(expert, ids)| self.gated(ids, h.clone()) * weights.clone().narrow(1, expert, 1));
        let shared = ids.shared.iter().map(|shared| {
            let out = self.gated(&shared.layer, h.clone());
            match &shared.gate {
                Some(gate) => out * sigmoid(self.linear(gate, h.clone())),
                None => out,
            }
        });
        weighted.chain(shared).reduce(|sum, more| sum + more).expect("an expert")
    }

    fn joint<const N: usize>(&self, ids: &JointIds<N>, x: Matrix) -> [Matrix; N] {
        match ids {
            JointIds::Separate(linears) => linears.each_ref().map(|linear| self.linear(linear, x.clone())),
            JointIds::Fused(linear, widths) => {
                let all = self.linear(linear, x);
                std::array::from_fn(|i| all.clone().narrow(1, widths[..i].iter().sum(), widths[i]))
            }
        }
    }

    fn linear(&self, ids: &LinearIds, x: Matrix) -> Matrix {
        let mut weight = self.params[ids.weight].clone();
        if let Some(lora) = &ids.lora {
            let product = self.params[lora.a].clone().matmul(self.params[lora.b].clone());
            weight = weight + product.mul_scalar(lora.scale);
            if let Some(magnitude) = lora.magnitude {
                let norms = weight.clone().powi_scalar(2).sum_dim(0).sqrt().detach();
                weight = weight * (self.params[magnitude].clone() / norms);
            }
        }
        let y = x.matmul(weight);
        match ids.bias {
            Some(bias) => y + self.params[bias].clone(),
            None => y,
        }
    }

    fn norm(&self, x: Matrix, weight: usize) -> Matrix {
        let config = &self.model.config;
        let offset = if config.norm_offset { 1.0 } else { 0.0 };
        plain::rms_norm(x, self.params[weight].clone() + offset, config.rms_norm_eps)
    }

    fn maybe_norm(&self, x: Matrix, weight: Option<usize>) -> Matrix {
        weight.map_or(x.clone(), |weight| self.norm(x, weight))
    }
}

/// 1 for each expert that a row with these scores picks, else 0.
fn picked(scores: &[f32], bias: &[f32], experts: &Experts) -> Vec<f32> {
    let mut ranks: Vec<f32> = scores.iter().zip(bias).map(|(score, bias)| score + bias).collect();
    let largest = |ranks: &[f32], count: usize| {
        let mut sorted = ranks.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted.truncate(count);
        sorted
    };
    if let Some(groups) = experts.groups {
        let size = ranks.len() / groups.count;
        let sums: Vec<f32> = ranks.chunks(size).map(|group| largest(group, 2).iter().sum()).collect();
        let least = largest(&sums, groups.per_token)[groups.per_token - 1];
        ranks.iter_mut().enumerate().filter(|(i, _)| sums[i / size] < least).for_each(|(_, rank)| *rank = -9.0);
    }
    let least = largest(&ranks, experts.per_token)[experts.per_token - 1];
    ranks.into_iter().map(|rank| if rank >= least { 1.0 } else { 0.0 }).collect()
}

/// transformers' `load_balancing_loss_func` over the probabilities and picks of all layers, one sequence per response.
fn balance(batch: &GroupBatch, layers: Vec<(Matrix, Matrix)>) -> Tensor<Tracked, 1> {
    let sequences = batch.responses().flat_map(|response| response.prompt.clone().chain(response.tokens.clone()));
    let rows: Vec<u32> = sequences.map(|row| row as u32).collect();
    let of_rows =
        |(probabilities, mask): (Matrix, Matrix)| (probabilities.select(0, ints(&rows)), mask.select(0, ints(&rows)));
    let (probabilities, masks): (Vec<_>, Vec<_>) = layers.into_iter().map(of_rows).unzip();
    let (probabilities, masks) = (Tensor::cat(probabilities, 0), Tensor::cat(masks, 0));
    let experts = masks.dims()[1] as f64;
    (masks.mean_dim(0) * probabilities.mean_dim(0)).sum().mul_scalar(experts)
}

fn ints(values: &[u32]) -> Tensor<Tracked, 1, Int> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &FlexDevice)
}
