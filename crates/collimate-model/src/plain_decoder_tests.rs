//! Compares the engine's gradients with burn's automatic differentiation of a decoder built from burn's operations.

mod adapters;
mod decoder;
mod generation;
mod together;

use burn_flex::{Flex, FlexDevice};
use collimate_backend::ComputeDtype;
use collimate_hf::{Experts, HostTensor, ModelConfig, SharedExpert};
use collimate_peft::{LoraConfig, LoraTargets};
use collimate_text::{GroupBatch, TokenizedGroup, TokenizedResponse};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rstest::rstest;
use serde_json::json;

use self::decoder::PlainDecoder;
use crate::host::floats;
use crate::{CausalLm, ForwardOptions, GenerateOptions, ModelError, Placement, RouterLoad, Trainable};

/// A small model of one family with random weights and norm weights near one. `NAME.partial` rotates part of a head;
/// `NAME.scaled` has a residual scale and a logit scale; `NAME.normalized` divides the weights of a token's experts by their sum;
/// `NAME.smooth` has norms that do not blow up what is next to nothing.
fn model(name: &str, lora: bool) -> CausalLm<Flex> {
    build(config(name), lora)
}

fn config(name: &str) -> ModelConfig {
    let (model_type, variant) = name.split_once('.').unwrap_or((name, ""));
    let is_windowed = matches!(model_type, "mistral" | "gemma2" | "gemma3_text" | "olmo3" | "gpt_oss");
    let mut config = json!({
        "model_type": model_type, "vocab_size": 97, "hidden_size": 24, "intermediate_size": 40, "head_dim": 8,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 1e4, "hidden_act": "silu", "tie_word_embeddings": model_type != "mistral",
        "sliding_window": if is_windowed { json!(5) } else { json!(null) },
        "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0, "query_pre_attn_scalar": if model_type == "gemma2" { 5 } else { 9 },
        "rope_local_base_freq": 50.0, "no_rope_layer_interval": 2, "num_local_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        "mlp_only_layers": [1], "norm_topk_prob": variant == "normalized",
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 10,
        "full_attention_interval": 2,
    });
    let yarn = json!({
        "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8, "rope_theta": 1e4,
        "llama_4_scaling_beta": 0.1, "attention_factor": 0.8,
    });
    match model_type {
        "ministral3" => config["rope_parameters"] = yarn,
        "gemma3_text" => config["layer_types"] = json!(["sliding_attention", "full_attention", "sliding_attention"]),
        "olmo3" => {
            config["layer_types"] = json!(["full_attention", "sliding_attention", "full_attention"]);
            config["rope_parameters"] = json!({ "full_attention": yarn });
        }
        _ => {}
    }
    if variant == "partial" {
        config["partial_rotary_factor"] = json!(0.5);
    }
    if variant == "smooth" {
        config["rms_norm_eps"] = json!(1e-2);
    }
    let mut config = read(config);
    if variant == "scaled" {
        (config.residual_scale, config.logit_scale) = (Some(0.4), Some(0.5));
    }
    if variant == "shared" {
        let shared = Some(SharedExpert { intermediate_size: 12, is_gated: true });
        config.experts = config.experts.map(|experts| Experts { shared, ..experts });
    }
    config
}

fn read(config: serde_json::Value) -> ModelConfig {
    ModelConfig::from_json(std::path::Path::new("config.json"), config).expect("a sound config")
}

/// A model with this configuration.
fn build(config: ModelConfig, lora: bool) -> CausalLm<Flex> {
    adapted(config, lora.then(|| LoraConfig::new(3, 6.0, LoraTargets::AllLinear)))
}

/// A model with this configuration and this adapter.
fn adapted(config: ModelConfig, lora: Option<LoraConfig>) -> CausalLm<Flex> {
    let is_offset = config.norm_offset;
    let trainable = if lora.is_some() { Trainable::Adapter } else { Trainable::Base };
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let placement = Placement { device: FlexDevice, dtype: ComputeDtype::Float32 };
    CausalLm::new(config, lora, trainable, placement, |info| {
        let center = if info.name.contains("norm") && !is_offset { 1.0 } else { 0.0 };
        let len: usize = info.file_shape.iter().product();
        let data = (0..len).map(|_| center + rng.random_range(-0.3..0.3f32)).collect();
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
        responses: responses.iter().enumerate().map(response).collect(),
        ..TokenizedGroup::default()
    }
}

#[rstest]
fn gradients_match_automatic_differentiation(
    #[values(
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "smollm3",
        "phi3",
        "phi3.partial",
        "olmo2",
        "gemma2",
        "mixtral",
        "qwen3_moe",
        "qwen3_moe.normalized",
        "gemma3_text",
        "olmo3",
        "ministral3",
        "llama.scaled",
        "olmo2.scaled",
        "mixtral.scaled",
        "mixtral.shared",
        "glm4_moe",
        "gpt_oss",
        "qwen3_5_text",
        "qwen3_5_text.scaled"
    )]
    architecture: &str,
    #[values(false, true)] lora: bool,
    #[values(false, true)] shared: bool,
    #[values(0, 2, 3)] kept_blocks: usize,
) {
    let groups = [group(0, 9, &[4, 11, 1]), group(1, 3, &[2, 2])];
    let batch = if shared { GroupBatch::shared(&groups) } else { GroupBatch::separate(&groups) };
    let coefficients = vec![vec![0.5, -1.0, 0.25], vec![-0.75, 2.0]];
    let mut model = model(architecture, lora);
    let expected = expected_gradients(&model, &batch, &coefficients, 0.0);
    let options = ForwardOptions { kept_blocks, dropout: None };
    let (_, tape) = model.forward(&batch, options).expect("a forward pass");
    model.backward(tape, &coefficients).expect("a backward pass");
    assert_gradients(&mut model, &expected);
}

#[rstest]
fn the_balance_loss_of_experts_is_that_of_the_whole_batch(
    #[values("mixtral", "glm4_moe")] architecture: &str,
    #[values(false, true)] lora: bool,
    #[values(false, true)] shared: bool,
) {
    const WEIGHT: f64 = 0.75;
    let groups = [group(0, 9, &[4, 11, 1]), group(1, 3, &[2, 2])];
    let whole = GroupBatch::shared(&groups);
    let coefficients = vec![vec![0.5, -1.0, 0.25], vec![-0.75, 2.0]];
    let mut model = model(architecture, lora);
    let expected = expected_gradients(&model, &whole, &coefficients, WEIGHT);
    // Two packs, the first with two responses of a group of three.
    let packs = [
        (GroupBatch::parts([(&groups[0], 0..2)], shared), vec![vec![0.5, -1.0]]),
        (GroupBatch::parts([(&groups[0], 2..3), (&groups[1], 0..2)], shared), vec![vec![0.25], vec![-0.75, 2.0]]),
    ];
    let mut load: Option<RouterLoad> = None;
    for (pack, _) in &packs {
        let more = model.score_with_load(pack, true, None).expect("scores").1.expect("a load");
        match &mut load {
            Some(load) => load.add(&more),
            None => load = Some(more),
        }
    }
    let load = load.expect("two packs");
    let of_whole = model.score_with_load(&whole, true, None).expect("scores").1.expect("a load");
    assert!((load.loss() - of_whole.loss()).abs() < 1e-6, "{} against {}", load.loss(), of_whole.loss());
    for (pack, coefficients) in &packs {
        let (_, mut tape) = model.forward(pack, ForwardOptions::PLAIN).expect("a forward pass");
        tape.balance(&load, WEIGHT);
        model.backward(tape, coefficients).expect("a backward pass");
    }
    assert_gradients(&mut model, &expected);
}

/// The gradients of the trained parameters by automatic differentiation.
fn expected_gradients(
    model: &CausalLm<Flex>,
    batch: &GroupBatch,
    coefficients: &[Vec<f64>],
    balance_weight: f64,
) -> Vec<Vec<f32>> {
    let decoder = PlainDecoder::new(model, batch);
    let grads = decoder.objective(batch, coefficients, balance_weight).backward();
    let gradient = |i: usize| floats(decoder.params[i].grad(&grads).expect("a gradient"));
    model.trainable().into_iter().map(gradient).collect()
}

fn assert_gradients(model: &mut CausalLm<Flex>, expected: &[Vec<f32>]) {
    let trained = model.trainable();
    for (&index, expected) in trained.iter().zip(expected) {
        let found = floats(model.take_gradient(index).expect("a gradient"));
        let size = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);
        let name = &model.parameters()[index].name;
        assert!(size > 0.0 || name.contains("k_proj.bias"), "{name}: a gradient of zero shows nothing");
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() <= 2e-5 * size + 1e-6, "{name}: {f} against {e} of {size}");
        }
    }
}

/// Log-probs of all responses and all gradients, with the micro-batch divided into the given packs.
fn log_probs_and_gradients(architecture: &str, lora: bool, batches: &[GroupBatch]) -> (Vec<f64>, Vec<f32>) {
    let mut model = model(architecture, lora);
    let mut logps = Vec::new();
    for batch in batches {
        let (found, tape) = model.forward(batch, ForwardOptions::PLAIN).expect("a forward pass");
        logps.extend(found.iter().flatten().map(|tokens| tokens.iter().sum::<f64>()));
        let of = |responses: &Vec<collimate_text::ResponseSpan>| {
            responses.iter().map(|response| 0.5 - 0.4 * response.number as f64).collect::<Vec<f64>>()
        };
        let coefficients: Vec<Vec<f64>> = batch.groups.iter().map(of).collect();
        model.backward(tape, &coefficients).expect("a backward pass");
    }
    let trained = model.trainable();
    (logps, trained.into_iter().flat_map(|i| floats(model.take_gradient(i).expect("a gradient"))).collect())
}

#[rstest]
fn a_shared_prompt_equals_responses_that_run_alone(
    #[values(
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "smollm3",
        "phi3",
        "olmo2",
        "gemma2",
        "mixtral",
        "qwen3_moe",
        "gemma3_text",
        "olmo3",
        "ministral3",
        "glm4_moe",
        "gpt_oss",
        // The first output of a state may be next to nothing: a norm's gradient there would be all rounding.
        "qwen3_5_text.smooth"
    )]
    architecture: &str,
    #[values(false, true)] lora: bool,
) {
    // Longer than Mistral's window of 5, and longer than a block of keys.
    let groups = [group(0, 290, &[12, 31, 1, 8]), group(1, 3, &[2, 20])];
    let shared = [GroupBatch::shared(&groups)];
    let each = |share_prompt: bool| -> Vec<GroupBatch> {
        let part = |group, k: usize| GroupBatch::parts([(group, k..k + 1)], share_prompt);
        groups.iter().flat_map(|group| (0..group.responses.len()).map(move |k| part(group, k))).collect()
    };
    let (logps, gradient) = log_probs_and_gradients(architecture, lora, &shared);
    assert_eq!(log_probs_and_gradients(architecture, lora, &each(true)).0, logps, "a part of a group has other bits");
    let (expected, expected_gradient) = log_probs_and_gradients(architecture, lora, &each(false));
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

#[rstest]
#[case("phi3", json!({ "type": "longrope", "short_factor": [1, 1, 2, 2], "long_factor": [1, 1, 4, 4] }))]
#[case("llama", json!({ "type": "dynamic", "factor": 2 }))]
fn a_sequence_whose_rotation_would_depend_on_its_length_is_refused(
    #[case] model_type: &str,
    #[case] rope_scaling: serde_json::Value,
) {
    let config = json!({
        "model_type": model_type, "vocab_size": 97, "hidden_size": 32, "intermediate_size": 40,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 12,
        "original_max_position_embeddings": 12, "rope_scaling": rope_scaling,
    });
    let model = build(read(config), false);
    let score = |response| model.score(&GroupBatch::shared(&[group(0, 9, &[1, response])]), true, None);
    assert!(score(3).is_ok());
    assert!(matches!(score(4), Err(ModelError::SequenceTooLong { length: 13, limit: 12 })));
    let generate = |max_new_tokens| {
        let options = GenerateOptions { max_new_tokens, ..GenerateOptions::default() };
        model.generate(&[vec![1; 9].into()], &options, |_| ())
    };
    // The fourth token is never an input, so twelve positions suffice.
    assert_eq!(generate(4).expect("tokens")[0][0].len(), 4);
    assert!(matches!(generate(5), Err(ModelError::SequenceTooLong { length: 13, limit: 12 })));
}
