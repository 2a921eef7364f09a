//! Compares adapters of every kind with PEFT: log-probs with and without them, and gradients of all that they train.

use std::path::PathBuf;

use burn_flex::{Flex, FlexDevice};
use collimate_backend::ComputeDtype;
use collimate_oracle::tolerances::LOGPS;
use collimate_oracle::{golden_dir, golden_name};
use collimate_peft::Adapter;
use collimate_text::GroupBatch;
use collimate_weights::{WeightFiles, read_config};
use rstest::rstest;
use serde_json::Value;

use crate::golden_scores_tests::{groups, rows, sums};
use crate::{CausalLm, ForwardOptions, Placement, Trainable};

fn open(family: &str, kind: &str) -> CausalLm<Flex> {
    let dir = golden_dir().join("models").join(family);
    let config = read_config(&dir).expect("a sound config");
    let weights = WeightFiles::open(&dir).expect("sound weights");
    let folder = golden_dir().join("adapters").join(format!("{family}.{kind}"));
    let adapter = Adapter::read(&folder, &config).expect("a sound adapter");
    let placement = Placement { device: FlexDevice, dtype: ComputeDtype::Float32 };
    let config = adapter.model_config(&config);
    CausalLm::new(config, Some(adapter.config.clone()), Trainable::Adapter, placement, |info| {
        let own = if info.is_adapter { adapter.tensors.get(&info.name) } else { adapter.base.get(&info.name) };
        own.map_or_else(|| weights.read(&info.name), |tensor| Ok(tensor.clone()))
    })
    .expect("a model")
}

#[rstest]
fn log_probs_and_gradients_agree_with_peft(#[files("../../tests/golden/*/adapters/*/expected.json")] file: PathBuf) {
    let kind = golden_name(&file);
    let family = golden_name(file.parent().and_then(|folder| folder.parent()).expect("a family"));
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(&file).expect("a file")).expect("JSON");
    let rows = rows(family);
    let mut model = open(family, kind);
    let batch = GroupBatch::shared(&groups(&rows));
    let logps =
        |value: &Value| value.as_array().expect("numbers").iter().map(|x| x.as_f64().expect("a number")).collect();
    let theirs: Vec<f64> = logps(&expected["logps"]);
    let close = |found: f64, expected: f64, tolerance: f64, what: &str| {
        assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}: {found} against {expected}");
    };
    let (found, tape) = model.forward(&batch, ForwardOptions::PLAIN).expect("a forward pass");
    for (found, expected) in sums(&found).into_iter().zip(&theirs) {
        close(found, *expected, LOGPS, kind);
    }
    for (found, expected) in sums(&model.score(&batch, true, None).expect("scores")).into_iter().zip(&theirs) {
        close(found, *expected, LOGPS, kind);
    }
    let coefficients: Vec<Vec<f64>> =
        batch.groups.iter().map(|group| (0..group.len()).map(|k| 0.3 - 0.2 * k as f64).collect()).collect();
    model.backward(tape, &coefficients).expect("a backward pass");
    let gradients = expected["gradients"].as_object().expect("gradients");
    assert_eq!(model.trainable().len(), gradients.len(), "{kind}: trained tensors");
    for id in model.trainable() {
        let name = model.parameters()[id].name.clone();
        let expected: Vec<f64> = logps(&gradients[&name]);
        let gradient = model.take_gradient(id).expect("a gradient");
        let info = &model.parameters()[id];
        let gradient = if info.transposed { gradient.transpose() } else { gradient };
        let values = crate::host::floats(gradient);
        let norm = values.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let wave = values.iter().enumerate().map(|(i, g)| f64::from(*g) * ((i + 1) as f64).sin()).sum::<f64>();
        assert!((norm - expected[0]).abs() <= 1e-4 * expected[0], "{kind}, {name}: {norm} against {}", expected[0]);
        assert!((wave - expected[1]).abs() <= 1e-4 * expected[0], "{kind}, {name}: {wave} against {}", expected[1]);
    }
}

/// The rows of an embedding or output layer that the file replaces are those of the reference too.
#[test]
fn a_reference_without_the_adapter_is_the_base_model() {
    let rows = rows("llama");
    let batch = GroupBatch::shared(&groups(&rows));
    let plain: Vec<f64> = rows.iter().flatten().map(|row| row["logps"].as_f64().expect("a number")).collect();
    for kind in ["dora", "copies", "copied_norms", "patterns"] {
        let found = sums(&open("llama", kind).score(&batch, false, None).expect("scores"));
        for (found, expected) in found.iter().zip(&plain) {
            assert!((found - expected).abs() <= LOGPS * expected.abs(), "{kind}: {found} against {expected}");
        }
    }
}

#[test]
fn greedy_generation_follows_the_log_probs_of_the_adapted_head() {
    for kind in ["head", "dora_head", "copies", "embedding"] {
        let model = open("llama", kind);
        let prompt: Vec<u32> = vec![5, 17, 42, 99];
        let options = crate::GenerateOptions { max_new_tokens: 6, temperature: 0.0, ..Default::default() };
        let ids = model.generate(&[prompt.clone().into()], &options, |_| ()).expect("tokens")[0][0].clone();
        // Every generated token is at least as likely as any of a few others.
        let response = |ids: Vec<u32>| collimate_text::TokenizedResponse { ids, reward: 0.0, num_cut: 0 };
        let mut responses = vec![response(ids.clone())];
        responses.extend((0..640).step_by(37).map(|other| {
            let mut changed = ids.clone();
            *changed.last_mut().expect("tokens") = other;
            response(changed)
        }));
        let group =
            collimate_text::TokenizedGroup { index: 0, line: 1, prompt_ids: prompt, responses, ..Default::default() };
        let logps = model.score(&GroupBatch::shared(&[group]), true, None).expect("scores");
        let last: Vec<f64> = logps[0].iter().map(|tokens| *tokens.last().expect("tokens")).collect();
        assert!(last.iter().all(|logp| *logp <= last[0] + 1e-6), "{kind}: {last:?}");
    }
}
