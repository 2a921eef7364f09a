//! A decoder built from burn's operations alone, for burn's automatic differentiation.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::tensor::activation::{log_softmax, softmax, tanh};
use burn::tensor::{Int, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use collimate_backend::{AttentionMap, GateActivation, Rotary, plain};
use collimate_hf::Activation;
use collimate_text::GroupBatch;

use crate::CausalLm;
use crate::engine::attention_shape;
use crate::host::floats;
use crate::parameter_index::{ExpertIds, FeedForwardIds, GatedIds, JointIds, LinearIds};
use crate::segments::segments;
use crate::targets::Targets;

type Tracked = Autodiff<Flex>;
type Matrix = Tensor<Tracked, 2>;

/// A decoder that shares only the parameters and their index with the engine.
pub(super) struct PlainDecoder<'a> {
    model: &'a CausalLm<Flex>,
    pub(super) params: Arc<Vec<Matrix>>,
    tiles: plain::Tiles<Tracked>,
    rotary: Rotary<Tracked>,
}

impl<'a> PlainDecoder<'a> {
    pub(super) fn new(model: &'a CausalLm<Flex>, batch: &GroupBatch) -> Self {
        let trainable = model.trainable();
        let track = |(index, param): (usize, &Tensor<Flex, 2>)| {
            let param = Matrix::from_inner(param.clone());
            if trainable.contains(&index) { param.require_grad() } else { param }
        };
        let (cos, sin) = model.rope.tables(&batch.positions);
        let config = &model.config;
        Self {
            model,
            params: Arc::new(model.params.iter().enumerate().map(track).collect()),
            tiles: plain::Tiles::new(&segments(batch), &attention_shape(config, 0), &config.layer_windows, &FlexDevice),
            rotary: Rotary::new(cos, sin, batch.num_tokens(), config.head_dim, &FlexDevice),
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
        let mut router_logits = Vec::new();
        for layer in 0..config.num_hidden_layers {
            x = self.block(layer, x, &mut router_logits);
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
        if balance_weight == 0.0 { sum } else { sum + balance(batch, router_logits).mul_scalar(balance_weight) }
    }

    fn block(&self, layer: usize, x: Matrix, router_logits: &mut Vec<(Matrix, Matrix)>) -> Matrix {
        let ids = &self.model.index.adapted.layers[layer];
        let config = &self.model.config;
        let h = self.maybe_norm(x.clone(), ids.attention_norms.before);
        let [q, k, v] = self.joint(&ids.qkv, h);
        let [q, k] = [(q, ids.q_norm), (k, ids.k_norm)].map(|(x, norm)| {
            let x = self.maybe_norm(x, norm);
            if config.rotated_layers[layer] { plain::rotate(x, &self.rotary, false) } else { x }
        });
        let attended = self.tiles.attention(&attention_shape(config, layer), [q, k, v]);
        let residual_scale = config.residual_scale.unwrap_or(1.0);
        let added = self.maybe_norm(self.linear(&ids.o, attended), ids.attention_norms.after);
        let x = x + added.mul_scalar(residual_scale);
        let h = self.maybe_norm(x.clone(), ids.feed_forward_norm);
        match &ids.feed_forward {
            FeedForwardIds::Dense { layer, norm } => {
                x + self.maybe_norm(self.gated(layer, h), *norm).mul_scalar(residual_scale)
            }
            FeedForwardIds::Experts(ids) => x + self.experts(ids, h, router_logits).mul_scalar(residual_scale),
        }
    }

    fn gated(&self, ids: &GatedIds, h: Matrix) -> Matrix {
        let activation = match self.model.config.hidden_act {
            Activation::Silu => GateActivation::Silu,
            Activation::Gelu => GateActivation::Gelu,
            Activation::GeluTanh => GateActivation::GeluTanh,
        };
        let [gate, up] = self.joint(&ids.gate_up, h);
        self.linear(&ids.down, plain::gated(activation, gate, up))
    }

    /// Runs every expert on every token, with weight zero for experts that were not picked.
    fn experts(&self, ids: &ExpertIds, h: Matrix, router_logits: &mut Vec<(Matrix, Matrix)>) -> Matrix {
        let logits = self.linear(&ids.router, h.clone());
        let numbers = floats(logits.clone());
        let mask = numbers.chunks(ids.experts.len()).flat_map(|row| {
            let mut sorted = row.to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            row.iter().map(move |&x| if x >= sorted[ids.per_token - 1] { 1.0 } else { 0.0 }).collect::<Vec<f32>>()
        });
        let mask: Matrix = Tensor::from_data(TensorData::new(mask.collect::<Vec<_>>(), logits.dims()), &FlexDevice);
        let weights = softmax(logits.clone() + (mask.clone() - 1.0).mul_scalar(1e5), 1);
        router_logits.push((logits, mask));
        let weighted = ids
            .experts
            .iter()
            .enumerate()
            .map(|(expert, ids)| self.gated(ids, h.clone()) * weights.clone().narrow(1, expert, 1));
        weighted.reduce(|sum, more| sum + more).expect("an expert")
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

/// transformers' `load_balancing_loss_func` over the router logits and picks of all layers, one sequence per response.
fn balance(batch: &GroupBatch, layers: Vec<(Matrix, Matrix)>) -> Tensor<Tracked, 1> {
    let sequences = batch.responses().flat_map(|response| response.prompt.clone().chain(response.tokens.clone()));
    let rows: Vec<u32> = sequences.map(|row| row as u32).collect();
    let layers = layers.into_iter().map(|(logits, mask)| (logits.select(0, ints(&rows)), mask.select(0, ints(&rows))));
    let (logits, masks): (Vec<_>, Vec<_>) = layers.unzip();
    let (probabilities, masks) = (softmax(Tensor::cat(logits, 0), 1), Tensor::cat(masks, 0));
    let experts = masks.dims()[1] as f64;
    (masks.mean_dim(0) * probabilities.mean_dim(0)).sum().mul_scalar(experts)
}

fn ints(values: &[u32]) -> Tensor<Tracked, 1, Int> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &FlexDevice)
}
