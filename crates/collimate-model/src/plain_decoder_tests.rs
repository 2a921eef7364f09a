//! The engine's gradients against burn's automatic differentiation of a decoder made of burn's operations.

use std::sync::Arc;

use burn::backend::Autodiff;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use collimate_backend::{AttentionShape, GateActivation, Rotary, plain};
use collimate_data::{GroupBatch, TokenizedGroup, TokenizedResponse};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rstest::rstest;
use serde_json::json;

use crate::causal_lm::floats;
use crate::config::ModelConfig;
use crate::layout::{LayerIds, LinearIds};
use crate::logprob::Targets;
use crate::segments::segments;
use crate::{CausalLm, ForwardOptions, HostTensor, LoraConfig, LoraTargets, Trainable};

type Tracked = Autodiff<Flex>;
type Matrix = Tensor<Tracked, 2>;

/// A decoder without anything of the engine's but the parameters and their layout.
struct PlainDecoder<'a> {
    model: &'a CausalLm<Flex>,
    params: Arc<Vec<Matrix>>,
    tiles: plain::Tiles<Tracked>,
    rotary: Rotary<Tracked>,
}

impl<'a> PlainDecoder<'a> {
    fn new(model: &'a CausalLm<Flex>, batch: &GroupBatch) -> Self {
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
            tiles: plain::Tiles::new(&segments(batch), &config.layer_windows, config.num_attention_heads, &FlexDevice),
            rotary: Rotary::new(cos, sin, batch.num_tokens(), &FlexDevice),
        }
    }

    /// `Σ c · logp` over all responses.
    fn objective(&self, batch: &GroupBatch, coefficients: &[Vec<f64>]) -> Tensor<Tracked, 1> {
        let layout = &self.model.layout;
        let mut x = self.params[layout.embedding].clone().select(0, ints(&batch.tokens));
        for layer in 0..self.model.config.num_hidden_layers {
            x = self.block(layer, x);
        }
        let targets = Targets::new(batch);
        let head = self.params[layout.head.unwrap_or(layout.embedding)].clone();
        let logits = self.norm(x.select(0, ints(&targets.rows)), layout.final_norm).matmul(head.transpose());
        let logps = log_softmax(logits, 1).gather(1, ints(&targets.tokens).unsqueeze_dim(1));
        let spread = targets.spread(coefficients);
        let spread = TensorData::new(spread, [targets.rows.len(), 1]);
        (logps * Tensor::from_data(spread, &FlexDevice)).sum()
    }

    fn block(&self, layer: usize, x: Matrix) -> Matrix {
        let ids = &self.model.layout.layers[layer];
        let config = &self.model.config;
        let h = self.norm(x.clone(), ids.input_norm);
        let head_norm = |x: Matrix, weight: Option<usize>| match weight {
            Some(weight) => self.norm(x, weight),
            None => x,
        };
        let q = plain::rotate(head_norm(self.linear(&ids.q, h.clone()), ids.q_norm), &self.rotary, false);
        let k = plain::rotate(head_norm(self.linear(&ids.k, h.clone()), ids.k_norm), &self.rotary, false);
        let shape = AttentionShape {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
            window: config.layer_windows[layer],
            softcap: None,
        };
        let attended = plain::attend(&shape, &self.tiles, [q, k, self.linear(&ids.v, h)]);
        let x = x + self.linear(&ids.o, attended);
        let h = self.norm(x.clone(), ids.post_norm);
        x + self.feed_forward(ids, h)
    }

    fn feed_forward(&self, ids: &LayerIds, h: Matrix) -> Matrix {
        let (gate, up) = (self.linear(&ids.gate, h.clone()), self.linear(&ids.up, h));
        self.linear(&ids.down, plain::gated(GateActivation::Silu, gate, up))
    }

    fn linear(&self, ids: &LinearIds, x: Matrix) -> Matrix {
        let mut y = x.clone().matmul(self.params[ids.weight].clone());
        if let Some(bias) = ids.bias {
            y = y + self.params[bias].clone();
        }
        if let (Some(lora), Some(config)) = (&ids.lora, self.model.lora()) {
            let low = x.matmul(self.params[lora.a].clone());
            y = y + low.matmul(self.params[lora.b].clone()).mul_scalar(config.scale());
        }
        y
    }

    fn norm(&self, x: Matrix, weight: usize) -> Matrix {
        plain::rms_norm(x, self.params[weight].clone(), self.model.config.rms_norm_eps)
    }
}

fn ints(values: &[u32]) -> Tensor<Tracked, 1, Int> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), &FlexDevice)
}

/// A small model of one architecture with random weights; vectors near one.
fn model(model_type: &str, lora: bool) -> CausalLm<Flex> {
    let config = json!({
        "model_type": model_type, "vocab_size": 97, "hidden_size": 24, "intermediate_size": 40, "head_dim": 8,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 1e4, "hidden_act": "silu", "tie_word_embeddings": model_type != "mistral",
        "sliding_window": if model_type == "mistral" { json!(5) } else { json!(null) },
    });
    let config = ModelConfig::from_json(std::path::Path::new("config.json"), config).expect("a sound config");
    let lora = lora.then(|| LoraConfig::new(3, 6.0, LoraTargets::AllLinear));
    let trainable = if lora.is_some() { Trainable::Adapter } else { Trainable::Base };
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    CausalLm::new(config, lora, trainable, FlexDevice, |info| {
        let centre = if info.name.contains("norm") { 1.0 } else { 0.0 };
        let len: usize = info.file_shape.iter().product();
        let data = (0..len).map(|_| centre + rng.random_range(-0.3..0.3f32)).collect();
        Ok(HostTensor { shape: info.file_shape.clone(), data })
    })
    .expect("a model")
}

fn group(index: usize, prompt: usize, responses: &[usize]) -> TokenizedGroup {
    let ids = |start: usize, len: usize| (start..start + len).map(|i| (i * 31 % 97) as u32).collect::<Vec<_>>();
    let response =
        |(k, &len): (usize, &usize)| TokenizedResponse { ids: ids(7 * k + index, len), reward: 0.0, num_cut: 0 };
    TokenizedGroup {
        index,
        line: index + 1,
        prompt_ids: ids(index, prompt),
        num_prompt_cut: 0,
        responses: responses.iter().enumerate().map(response).collect(),
    }
}

#[rstest]
fn gradients_are_those_of_automatic_differentiation(
    #[values("llama", "mistral", "qwen2", "qwen3")] model_type: &str,
    #[values(false, true)] lora: bool,
    #[values(false, true)] shared: bool,
    #[values(0, 2, 3)] kept_blocks: usize,
) {
    let groups = [group(0, 9, &[4, 11, 1]), group(1, 3, &[2, 2])];
    let batch = if shared { GroupBatch::shared(&groups) } else { GroupBatch::separate(&groups) };
    let coefficients = vec![vec![0.5, -1.0, 0.25], vec![-0.75, 2.0]];
    let mut model = model(model_type, lora);
    let decoder = PlainDecoder::new(&model, &batch);
    let grads = decoder.objective(&batch, &coefficients).backward();
    let trained = model.trainable();
    let expected: Vec<Vec<f32>> =
        trained.iter().map(|&i| floats(decoder.params[i].grad(&grads).expect("a gradient"))).collect();
    let options = ForwardOptions { kept_blocks, dropout: None };
    let (_, tape) = model.forward(&batch, options).expect("a forward pass");
    model.backward(tape, &coefficients);
    for (&index, expected) in trained.iter().zip(&expected) {
        let found = floats(model.take_gradient(index).expect("a gradient"));
        let size = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);
        let name = &model.parameters()[index].name;
        assert!(size > 0.0 || name.contains("k_proj.bias"), "{name}: a gradient of zero shows nothing");
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() <= 2e-5 * size + 1e-6, "{name}: {f} against {e} of {size}");
        }
    }
}

/// Log-probs of all responses, and all gradients, with the pack divided as given.
fn log_probs_and_gradients(model_type: &str, lora: bool, batches: &[GroupBatch]) -> (Vec<f64>, Vec<f32>) {
    let mut model = model(model_type, lora);
    let mut logps = Vec::new();
    for batch in batches {
        let (found, tape) = model.forward(batch, ForwardOptions::PLAIN).expect("a forward pass");
        logps.extend(found.iter().flatten().map(|tokens| tokens.iter().sum::<f64>()));
        let of = |responses: &Vec<collimate_data::PackedResponse>| {
            responses.iter().map(|response| 0.5 - 0.4 * response.number as f64).collect::<Vec<f64>>()
        };
        let coefficients: Vec<Vec<f64>> = batch.groups.iter().map(of).collect();
        model.backward(tape, &coefficients);
    }
    let trained = model.trainable();
    (logps, trained.into_iter().flat_map(|i| floats(model.take_gradient(i).expect("a gradient"))).collect())
}

#[rstest]
fn a_shared_prompt_equals_responses_that_run_alone(
    #[values("llama", "mistral", "qwen2", "qwen3")] model_type: &str,
    #[values(false, true)] lora: bool,
) {
    // Longer than Mistral's window of 5, and longer than a block of keys.
    let groups = [group(0, 290, &[12, 31, 1, 8]), group(1, 3, &[2, 20])];
    let shared = [GroupBatch::shared(&groups)];
    let alone = groups
        .iter()
        .flat_map(|group| (0..group.responses.len()).map(move |k| GroupBatch::parts([(group, k..k + 1)], true)));
    let alone: Vec<GroupBatch> = alone.collect();
    let (logps, gradient) = log_probs_and_gradients(model_type, lora, &shared);
    let (expected, expected_gradient) = log_probs_and_gradients(model_type, lora, &alone);
    for (found, expected) in logps.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{found} against {expected}");
    }
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let size = norm(&mut expected_gradient.iter().map(|&x| f64::from(x)));
    let pairs = gradient.iter().zip(&expected_gradient);
    let difference = norm(&mut pairs.map(|(&f, &e)| f64::from(f) - f64::from(e)));
    assert!(size > 1e-2, "a gradient of zero shows nothing");
    assert!(difference <= 1e-6 * size, "{difference} of {size}");
}
