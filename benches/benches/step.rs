//! Objectives, scoring, and forward and backward passes over one batch, with and without a shared prompt.

#![allow(missing_docs)] // criterion writes functions without any

use std::hint::black_box;
use std::path::Path;

use burn_flex::{Flex, FlexDevice};
use collimate_hf::{HostTensor, ModelConfig};
use collimate_model::{CausalLm, ComputeDtype, ForwardOptions, Placement, Trainable};
use collimate_objective::{GroupScores, evaluate, registry};
use collimate_objectives as _;
use collimate_text::{GroupBatch, TokenizedGroup, TokenizedResponse};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;

const NUM_PROMPTS: usize = 2;
const NUM_RESPONSES: usize = 4;
const PROMPT_TOKENS: usize = 96;
const RESPONSE_TOKENS: usize = 64;

/// A Llama of ten million parameters. Only their number matters, so the weights are a fixed wave.
fn model() -> CausalLm<Flex> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 8192, "hidden_size": 256,
        "intermediate_size": 704, "num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 4,
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
    });
    let config = ModelConfig::from_json(Path::new("config.json"), config).expect("a sound config");
    let placement = Placement { device: FlexDevice, dtype: ComputeDtype::Float32 };
    CausalLm::new(config, None, Trainable::Base, placement, |info| {
        let len: usize = info.file_shape.iter().product();
        let data = (0..len).map(|i| 0.03 * (i as f32 * 0.7).sin()).collect();
        Ok(HostTensor { shape: info.file_shape.clone(), data })
    })
    .expect("a model")
}

fn groups() -> Vec<TokenizedGroup> {
    let ids = |start: usize, len: usize| (start..start + len).map(|i| (i * 37 % 8192) as u32).collect();
    let response = |k| TokenizedResponse { ids: ids(100 * k, RESPONSE_TOKENS), reward: k as f64, num_cut: 0 };
    let group = |index| TokenizedGroup {
        index,
        line: index + 1,
        prompt_ids: ids(index, PROMPT_TOKENS),
        num_prompt_cut: 0,
        images: Vec::new(),
        responses: (0..NUM_RESPONSES).map(response).collect(),
    };
    (0..NUM_PROMPTS).map(group).collect()
}

fn model_passes(criterion: &mut Criterion) {
    let groups = groups();
    let mut model = model();
    let mut bench = criterion.benchmark_group("10M, K = 4, prompt 96, responses 64");
    bench.sample_size(10).throughput(Throughput::Elements(NUM_PROMPTS as u64));
    for (name, batch) in [("shared", GroupBatch::shared(&groups)), ("separate", GroupBatch::separate(&groups))] {
        bench
            .bench_function(format!("score, {name} prompt"), |b| b.iter(|| black_box(model.score(&batch, true, None))));
        bench.bench_function(format!("forward and backward, {name} prompt"), |b| {
            b.iter(|| {
                let options = ForwardOptions::PLAIN;
                let (_, tape) = model.forward(&batch, options).expect("a forward pass");
                model.backward(tape, &vec![vec![0.1; NUM_RESPONSES]; NUM_PROMPTS]).expect("a backward pass");
                for index in model.trainable() {
                    black_box(model.take_gradient(index));
                }
            });
        });
    }
    bench.finish();
}

fn objectives(criterion: &mut Criterion) {
    let scores: Vec<GroupScores> = (0..32)
        .map(|i| {
            let series = |f: f64| (0..8).map(|k| f * f64::from(i + 3 * k)).collect::<Vec<f64>>();
            let policy_logps = series(-0.7);
            let reference_logps = Some(series(-0.6));
            GroupScores { policy_logps, reference_logps, rewards: series(0.1), lengths: vec![20; 8] }
        })
        .collect();
    let mut bench = criterion.benchmark_group("objectives, 32 prompts, K = 8");
    for name in ["nca", "infonca", "dpo"] {
        let objective = registry::build(name, &serde_json::Map::new()).expect("a built-in objective");
        bench.bench_function(name, |b| b.iter(|| black_box(evaluate(objective.as_ref(), &scores))));
    }
    bench.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = objectives, model_passes
}
criterion_main!(benches);
