//! Gradients of every kind of adapter.

use burn::tensor::{Tensor, TensorData};
use burn_flex::{Flex, FlexDevice};
use collimate_peft::LoraConfig;
use collimate_text::GroupBatch;
use rstest::rstest;
use serde_json::json;

use super::{adapted, assert_gradients, config, expected_gradients, group};
use crate::host::floats;
use crate::{CausalLm, DropoutKey, ForwardOptions};

/// PEFT's settings of an adapter.
fn lora(settings: serde_json::Value) -> LoraConfig {
    let mut all = json!({ "peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": "all-linear" });
    for (key, value) in settings.as_object().expect("settings") {
        all[key] = value.clone();
    }
    LoraConfig::from_json(std::path::Path::new("adapter_config.json"), &all).expect("sound settings")
}

#[rstest]
#[case::dora(json!({ "use_dora": true }))]
#[case::ranks(json!({ "rank_pattern": { "q_proj": 2, "down_proj": 5 }, "alpha_pattern": { "layers.1.*": 9 } }))]
#[case::layers(json!({ "layers_to_transform": [1], "exclude_modules": ["o_proj"] }))]
#[case::head(json!({ "target_modules": ["o_proj", "lm_head"] }))]
#[case::head_dora(json!({ "target_modules": ["o_proj", "lm_head"], "use_dora": true }))]
#[case::embedding(json!({ "target_modules": ["o_proj", "embed_tokens"] }))]
#[case::copies(json!({ "target_modules": ["o_proj"], "modules_to_save": ["lm_head", "embed_tokens"] }))]
#[case::copied_layer(json!({ "target_modules": ["o_proj"], "modules_to_save": ["layers.1.mlp", "norm"] }))]
fn gradients_of_every_kind_of_adapter_match_automatic_differentiation(
    #[values("llama", "qwen2", "phi3", "gemma2", "llama.scaled", "mistral", "qwen3_5_text")] architecture: &str,
    #[case] settings: serde_json::Value,
    #[values(0, 3)] kept_blocks: usize,
) {
    let lora = lora(settings);
    let base = config(architecture);
    let batch = GroupBatch::shared(&[group(0, 9, &[4, 11, 1]), group(1, 3, &[2, 2])]);
    let coefficients = vec![vec![0.5, -1.0, 0.25], vec![-0.75, 2.0]];
    let mut model = adapted(base.clone(), Some(lora.clone()));
    assert_eq!(model.trainable().len(), lora.tensors(&base).len());
    let expected = expected_gradients(&model, &batch, &coefficients, 0.0);
    let (logps, tape) = model.forward(&batch, ForwardOptions { kept_blocks, dropout: None }).expect("a forward pass");
    let sums = |logps: Vec<Vec<Vec<f64>>>| logps.iter().flatten().map(|t| t.iter().sum()).collect::<Vec<f64>>();
    let scores = sums(model.score(&batch, true, None).expect("scores"));
    for (score, logp) in scores.iter().zip(sums(logps)) {
        assert!((score - logp).abs() <= 1e-6 * logp.abs(), "{score} against {logp}");
    }
    assert_ne!(sums(model.score(&batch, false, None).expect("scores")), scores);
    model.backward(tape, &coefficients).expect("a backward pass");
    assert_gradients(&mut model, &expected);
}

/// Dropout's draws are fixed by their key, so a difference of log-probs shows the gradient.
#[rstest]
#[case::plain(json!({}))]
#[case::dora(json!({ "use_dora": true }))]
#[case::head(json!({ "target_modules": ["q_proj", "lm_head"] }))]
fn gradients_with_dropout_match_differences(#[case] settings: serde_json::Value) {
    let lora = LoraConfig { dropout: 0.3, ..lora(settings) };
    let batch = GroupBatch::shared(&[group(0, 9, &[4, 11, 1]), group(1, 3, &[2, 2])]);
    let coefficients = vec![vec![0.5, -1.0, 0.25], vec![-0.75, 2.0]];
    let dropout = Some(DropoutKey { seed: 3, step: 1 });
    let mut model = adapted(config("llama"), Some(lora));
    let objective = |model: &CausalLm<Flex>| -> f64 {
        let logps = model.score(&batch, true, dropout).expect("scores");
        let pairs = logps.iter().flatten().zip(coefficients.iter().flatten());
        pairs.map(|(tokens, c)| c * tokens.iter().sum::<f64>()).sum()
    };
    let (_, tape) = model.forward(&batch, ForwardOptions { kept_blocks: 1, dropout }).expect("a forward pass");
    model.backward(tape, &coefficients).expect("a backward pass");
    for id in model.trainable() {
        let name = model.parameters()[id].name.clone();
        // DoRA's norm is a constant to the backward pass, so differences show the gradients of magnitudes only.
        if model.lora().is_some_and(|lora| lora.use_dora) && !name.ends_with("lora_magnitude_vector") {
            continue;
        }
        let gradient = floats(model.take_gradient(id).expect("a gradient"));
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let before = model.download(id);
        let mut moved = |step: f64| {
            let mut value = floats(model.parameter(id).clone());
            value.iter_mut().zip(&gradient).for_each(|(x, g)| *x += (step * f64::from(*g) / norm) as f32);
            let shape = model.parameters()[id].stored_shape();
            let value = TensorData::new(value, shape);
            model.set_parameter(id, Tensor::from_data(value, &FlexDevice));
            let found = objective(&model);
            model.load(id, before.clone());
            found
        };
        let step = 0.02;
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((slope - norm).abs() <= 0.02 * norm + 1e-3, "{name}: slope {slope} against {norm}");
    }
}
