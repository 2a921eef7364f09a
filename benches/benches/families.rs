//! What families cost: a mixture of experts against a dense model of its active size, the same work a token; and a model with
//! recurrent layers over K responses of one prompt, by K.
//!
//! `cargo bench -p collimate-benches --bench families`; a mixture is to take at most 1.4 times as long as the dense model beside
//! it, and K responses at most 1.1 times as long as their share of tokens.

#![allow(missing_docs)] // criterion writes functions without any

use std::hint::black_box;
use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use collimate_hf::{HostTensor, ModelConfig};
use collimate_model::{CausalLm, ComputeDtype, ForwardOptions, Placement, Trainable};
use collimate_text::{GroupBatch, TokenizedGroup, TokenizedResponse};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};

const VOCAB_SIZE: usize = 4096;
const WIDTH: usize = 256;
/// Inner width of an expert.
const INNER: usize = 192;
const EXPERTS: usize = 16;
const PICKED: usize = 4;
const NUM_PROMPTS: usize = 2;
const NUM_RESPONSES: usize = 4;
const PROMPT_TOKENS: usize = 192;
const RESPONSE_TOKENS: usize = 128;
/// Where the weights are the same wave, a router would send every token to the same experts.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A model with 16 experts, of which a token goes through four, or the dense model with the operations of four.
fn model(mixture: bool) -> CausalLm<Flex> {
    let mut config = json!({
        "model_type": "qwen3_moe", "vocab_size": VOCAB_SIZE, "hidden_size": WIDTH, "intermediate_size": INNER,
        "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 1024,
        "head_dim": 32, "moe_intermediate_size": INNER, "num_experts": EXPERTS, "num_experts_per_tok": PICKED,
        "norm_topk_prob": true,
    });
    if !mixture {
        config["model_type"] = json!("qwen3");
        config["intermediate_size"] = json!(PICKED * INNER);
    }
    build(config)
}

fn build(config: Value) -> CausalLm<Flex> {
    let config = ModelConfig::from_json(Path::new("config.json"), config).expect("a sound config");
    let placement = Placement { device: FlexDevice, dtype: ComputeDtype::Float32 };
    let mut state = SEED;
    CausalLm::new(config, None, Trainable::Base, placement, |info| {
        let len: usize = info.file_shape.iter().product();
        let draw = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1
        };
        Ok(HostTensor { shape: info.file_shape.clone(), data: (0..len).map(draw).collect() })
    })
    .expect("a model")
}

/// A model with six recurrent layers and two of attention.
fn recurrent() -> CausalLm<Flex> {
    build(json!({
        "model_type": "qwen3_5_text", "vocab_size": VOCAB_SIZE, "hidden_size": 512, "intermediate_size": 1536,
        "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
        "linear_num_key_heads": 8, "linear_num_value_heads": 8, "linear_key_head_dim": 64, "linear_value_head_dim": 64,
    }))
}

fn batch(num_prompts: usize, prompt_tokens: usize, num_responses: usize, response_tokens: usize) -> GroupBatch {
    let ids = |start: usize, len: usize| (start..start + len).map(|i| (i * 37 % VOCAB_SIZE) as u32).collect();
    let response = |k| TokenizedResponse { ids: ids(100 * k, response_tokens), reward: k as f64, num_cut: 0 };
    let group = |index| TokenizedGroup {
        index,
        line: index + 1,
        prompt_ids: ids(index, prompt_tokens),
        num_prompt_cut: 0,
        images: Vec::new(),
        responses: (0..num_responses).map(response).collect(),
    };
    GroupBatch::shared(&(0..num_prompts).map(group).collect::<Vec<_>>())
}

/// A pass forward and back, whose gradients go nowhere.
fn pass(model: &mut CausalLm<Flex>, batch: &GroupBatch, d_logps: &[Vec<f64>]) {
    let (_, tape) = model.forward(batch, ForwardOptions::PLAIN).expect("a forward pass");
    model.backward(tape, d_logps).expect("a backward pass");
    for index in model.trainable() {
        black_box(model.take_gradient(index));
    }
}

fn mixtures(criterion: &mut Criterion) {
    let batch = batch(NUM_PROMPTS, PROMPT_TOKENS, NUM_RESPONSES, RESPONSE_TOKENS);
    let tokens = NUM_PROMPTS * (PROMPT_TOKENS + NUM_RESPONSES * RESPONSE_TOKENS);
    let mut models = [("dense", model(false)), ("mixture", model(true))];
    let mut bench = criterion.benchmark_group("6 layers of 256, 4 of 16 experts of 192");
    bench.sample_size(10).throughput(Throughput::Elements(tokens as u64));
    for (name, model) in &mut models {
        bench.bench_function(BenchmarkId::new("score", *name), |b| {
            b.iter(|| black_box(model.score(&batch, true, None).expect("log-probs")))
        });
    }
    for (name, model) in &mut models {
        bench.bench_function(BenchmarkId::new("forward and backward", *name), |b| {
            b.iter(|| pass(model, &batch, &vec![vec![0.1; NUM_RESPONSES]; NUM_PROMPTS]));
        });
    }
    bench.finish();
}

fn shared_prompts(criterion: &mut Criterion) {
    let mut model = recurrent();
    let mut bench = criterion.benchmark_group("6 recurrent layers of 8, prompt 400, responses 25");
    bench.sample_size(10);
    for num_responses in [2, 4, 8, 16] {
        let batch = batch(1, 400, num_responses, 25);
        bench.throughput(Throughput::Elements((400 + 25 * num_responses) as u64));
        bench.bench_function(BenchmarkId::new("forward and backward", num_responses), |b| {
            b.iter(|| pass(&mut model, &batch, &[vec![0.1; num_responses]]));
        });
    }
    bench.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = mixtures, shared_prompts
}
criterion_main!(benches);
