//! Dropout of the residual stream: gradients are those of what was computed.

use std::path::Path;

use burn::tensor::Tensor;
use burn_flex::{Flex, FlexDevice};
use collimate_backend::ComputeDtype;
use collimate_hf::{Dropped, HostTensor, ModelConfig};
use collimate_model::{CausalLm, DropoutKey, ForwardOptions, Placement, Trainable};
use collimate_text::{GroupBatch, TokenizedGroup, TokenizedResponse};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rstest::rstest;
use serde_json::{Value, json};

/// A generator whose heads share keys and values, over pictures of four tokens.
fn llamagen() -> Value {
    json!({
        "model_type": "llamagen", "dim": 32, "n_layer": 2, "n_head": 4, "n_kv_head": 2, "multiple_of": 8, "num_classes": 3,
        "vocab_size": 97, "block_size": 4, "norm_eps": 1e-5,
    })
}

/// A language model; gemma2 has norms after its layers, granite a scale on what they add.
fn words(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "vocab_size": 97, "hidden_size": 24, "intermediate_size": 40, "head_dim": 8, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
        "hidden_act": "silu", "tie_word_embeddings": true, "sliding_window": if model_type == "gemma2" { json!(5) } else { Value::Null }, "query_pre_attn_scalar": 9,
        "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0, "residual_multiplier": 0.4, "logits_scaling": 2.0,
        "embedding_multiplier": 1.0, "attention_multiplier": 0.3,
    })
}

fn model(config: Value) -> CausalLm<Flex> {
    let config = ModelConfig::from_json(Path::new("config.json"), config).expect("a sound configuration");
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let placement = Placement { device: FlexDevice, dtype: ComputeDtype::Float32 };
    let is_offset = config.norm_offset;
    CausalLm::new(config, None, Trainable::Base, placement, |info| {
        let center = if info.name.contains("norm") && !is_offset { 1.0 } else { 0.0 };
        let len: usize = info.file_shape.iter().product();
        let data = (0..len).map(|_| center + rng.random_range(-0.3..0.3f32)).collect();
        Ok(HostTensor { shape: info.file_shape.clone(), data })
    })
    .expect("a model")
}

fn batch(prompt: &[u32]) -> GroupBatch {
    let response = |start: u32| TokenizedResponse {
        ids: (start..start + 4).map(|i| i * 31 % 97).collect(),
        reward: 0.0,
        num_cut: 0,
    };
    let group = TokenizedGroup {
        index: 3,
        line: 4,
        prompt_ids: prompt.to_vec(),
        responses: vec![response(1), response(9)],
        ..TokenizedGroup::default()
    };
    GroupBatch::shared([&group])
}

fn numbers(tensor: &Tensor<Flex, 2>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

#[rstest]
#[case::llamagen(llamagen(), &[98])]
#[case::with_norms_after(words("gemma2"), &[5, 8, 2])]
#[case::scaled(words("granite"), &[5, 8, 2])]
fn gradients_under_dropout_are_those_of_finite_differences(#[case] config: Value, #[case] prompt: &[u32]) {
    let mut model = model(config);
    let (batch, key) = (batch(prompt), Some(DropoutKey { seed: 4, step: 7 }));
    let options = ForwardOptions { dropout: key, ..ForwardOptions::PLAIN };
    let coefficients = [vec![0.7, -0.4]];
    let value = |model: &CausalLm<Flex>| -> f64 {
        let logps = model.score(&batch, true, key).expect("a pass");
        let sums = logps[0].iter().map(|response| response.iter().sum::<f64>());
        sums.zip(&coefficients[0]).map(|(sum, c)| sum * c).sum()
    };
    let plain = model.score(&batch, true, key).expect("a pass");
    model.set_dropped(Dropped { numbers: 0.3, paths: 0.0 });
    assert_eq!(plain, model.score(&batch, true, None).expect("a pass"), "only training drops");
    assert_ne!(plain, model.score(&batch, true, key).expect("a pass"), "dropout changes nothing");
    let (logps, tape) = model.forward(&batch, options).expect("a pass");
    assert_eq!(logps, model.score(&batch, true, key).expect("a pass"));
    model.backward(tape, &coefficients).expect("a pass");
    let trainable = model.trainable();
    let gradients: Vec<_> = trainable.iter().map(|id| model.take_gradient(*id).expect("a gradient")).collect();
    // Blocks that run again give the same bits.
    let (_, again) = model.forward(&batch, ForwardOptions { kept_blocks: 0, ..options }).expect("a pass");
    model.backward(again, &coefficients).expect("a pass");
    for (id, gradient) in trainable.iter().zip(&gradients) {
        let again = model.take_gradient(*id).expect("a gradient");
        assert_eq!(numbers(gradient), numbers(&again), "{}", model.parameters()[*id].name);
    }
    // Along the gradient, the value grows by its norm.
    let squares = gradients.iter().flat_map(numbers).map(|x| x * x).sum::<f64>();
    let norm = squares.sqrt();
    let step = 2e-3 / norm;
    let mut moved = |factor: f64| {
        for (id, gradient) in trainable.iter().zip(&gradients) {
            let value = model.parameter(*id).clone() + gradient.clone().mul_scalar(factor as f32);
            model.set_parameter(*id, value);
        }
        value(&model)
    };
    let (above, below) = (moved(step), moved(-2.0 * step));
    let slope = (above - below) / (2.0 * step * norm);
    assert!((slope / norm - 1.0).abs() < 2e-2, "{slope}, expected {norm}");
}
