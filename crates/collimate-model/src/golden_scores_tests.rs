//! Compares log-probs and gradients with PyTorch's, and computed one way with another, on the backend that
//! `cargo xtask test --backend` names.

use std::path::PathBuf;

use collimate_backend::{BackendJob, ComputeDtype, FusedOps, dispatch};
use collimate_oracle::tolerances::{LOGPS, SAME_GRADIENTS, TOKEN_LOGPS};
use collimate_oracle::{golden_dir, golden_name};
use collimate_peft::{Adapter, LoraConfig};
use collimate_text::{EncodedPrompt, GroupBatch, TokenizedGroup, TokenizedResponse, TurnEnds};
use collimate_weights::{WeightFiles, read_config};
use rstest::rstest;
use serde_json::Value;

use crate::{CausalLm, DropoutKey, ForwardOptions, GenerateOptions, Placement, Trainable};

/// Runs a job on the first device of the backend under test.
fn on_the_backend<J: BackendJob<Output = ()>>(job: J) {
    let named = std::env::var("COLLIMATE_TEST_BACKEND").ok().filter(|name| !name.is_empty());
    dispatch(named.as_deref().unwrap_or("flex"), 0, job).expect("a device of the backend");
}

/// Runs a test's body, a function generic over the backend, with its arguments.
macro_rules! on_the_backend {
    ($body:ident($($argument:ident: $type:ty),*)) => {{
        struct Job<'a> {
            $($argument: $type,)*
            lifetime: std::marker::PhantomData<&'a ()>,
        }
        impl BackendJob for Job<'_> {
            type Output = ();

            fn run<B: FusedOps>(self, device: B::Device) {
                $body::<B>(&device, $(self.$argument),*);
            }
        }
        on_the_backend(Job { $($argument,)* lifetime: std::marker::PhantomData });
    }};
}

fn open<B: FusedOps>(device: &B::Device, name: &str, with_adapter: bool, trainable: Trainable) -> CausalLm<B> {
    open_in(device, name, with_adapter, trainable, ComputeDtype::Float32)
}

pub(crate) fn open_in<B: FusedOps>(
    device: &B::Device,
    name: &str,
    with_adapter: bool,
    trainable: Trainable,
    dtype: ComputeDtype,
) -> CausalLm<B> {
    let dir = golden_dir().join("models").join(name);
    let config = read_config(&dir).expect("a sound config");
    let weights = WeightFiles::open(&dir).expect("sound weights");
    let mut adapter = with_adapter.then(|| {
        let adapter = golden_dir().join("adapters").join(name);
        Adapter::read(&adapter, &config).expect("a sound adapter")
    });
    let lora = adapter.as_ref().map(|a| LoraConfig { dropout: 0.2, ..a.config.clone() });
    CausalLm::new(config, lora, trainable, Placement { device: device.clone(), dtype }, |info| {
        if !info.is_adapter {
            return weights.read(&info.name);
        }
        Ok(adapter.as_mut().expect("an adapter").tensors[&info.name].clone())
    })
    .expect("a model")
}

/// The rows of one architecture, grouped by their prompt.
pub(crate) fn rows(name: &str) -> Vec<Vec<Value>> {
    let text = std::fs::read_to_string(golden_dir().join(format!("logps/{name}.json"))).expect("golden log-probs");
    let rows: Vec<Value> = serde_json::from_str(&text).expect("rows");
    let groups = rows.chunk_by(|a, b| a["prompt"] == b["prompt"]);
    groups.map(<[Value]>::to_vec).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

pub(crate) fn groups(rows: &[Vec<Value>]) -> Vec<TokenizedGroup> {
    let response = |row: &Value| TokenizedResponse { ids: ids(&row["response_ids"]), reward: 0.0, num_cut: 0 };
    let group = |rows: &Vec<Value>| TokenizedGroup {
        index: 0,
        line: 1,
        prompt_ids: ids(&rows[0]["prompt_ids"]),
        responses: rows.iter().map(response).collect(),
        ..TokenizedGroup::default()
    };
    rows.iter().map(group).collect()
}

pub(crate) fn sums(logps: &[Vec<Vec<f64>>]) -> Vec<f64> {
    logps.iter().flatten().map(|tokens| tokens.iter().sum()).collect()
}

fn assert_close(found: &[f64], expected: &[f64], relative: f64) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= relative * e.abs().max(1.0), "{f} against {e}");
    }
}

#[rstest]
fn log_probs_agree_with_pytorch(
    #[files("../../tests/golden/*/golden.json")] family: PathBuf,
    #[values(true, false)] shared: bool,
) {
    let name = golden_name(&family);
    on_the_backend!(check_log_probs(name: &'a str, shared: bool));
}

fn check_log_probs<B: FusedOps>(device: &B::Device, name: &str, shared: bool) {
    let rows = rows(name);
    let groups = groups(&rows);
    let batch = if shared { GroupBatch::shared(&groups) } else { GroupBatch::separate(&groups) };
    let logps = open::<B>(device, name, false, Trainable::Nothing).score(&batch, true, None).expect("scores");
    let expected = |key: &str| rows.iter().flatten().map(|r| r[key].as_f64().expect("a number")).collect::<Vec<_>>();
    assert_close(&sums(&logps), &expected("logps"), LOGPS);
    let tokens: Vec<f64> = logps.iter().flatten().flatten().copied().collect();
    let numbers = |r: &Value| r["token_logps"].as_array().expect("tokens").clone();
    let per_token: Vec<f64> = rows.iter().flatten().flat_map(numbers).map(|v| v.as_f64().expect("a number")).collect();
    assert_close(&tokens, &per_token, TOKEN_LOGPS);
    let adapted = open::<B>(device, name, true, Trainable::Nothing);
    assert_close(&sums(&adapted.score(&batch, true, None).expect("scores")), &expected("logps_with_adapter"), LOGPS);
    assert_close(&sums(&adapted.score(&batch, false, None).expect("scores")), &expected("logps"), LOGPS);
}

/// All blocks keep their activations.
const ALL: usize = usize::MAX;

/// Gradients of Σ c·logp, computed the given way.
fn gradients<B: FusedOps>(
    device: &B::Device,
    name: &str,
    adapter: bool,
    shared: bool,
    kept_blocks: usize,
    dropout: Option<DropoutKey>,
) -> Vec<Vec<f32>> {
    let groups = groups(&rows(name));
    let batch = if shared { GroupBatch::shared(&groups) } else { GroupBatch::separate(&groups) };
    let trainable = if adapter { Trainable::Adapter } else { Trainable::Base };
    let mut model = open::<B>(device, name, adapter, trainable);
    let (_, tape) = model.forward(&batch, ForwardOptions { kept_blocks, dropout }).expect("a forward pass");
    let coefficients: Vec<Vec<f64>> =
        batch.groups.iter().map(|g| (0..g.len()).map(|k| 0.3 - 0.2 * k as f64).collect()).collect();
    model.backward(tape, &coefficients).expect("a backward pass");
    let trained = model.trainable();
    trained.iter().map(|&i| crate::host::floats(model.take_gradient(i).expect("a gradient"))).collect()
}

fn assert_same_gradients(a: &[Vec<f32>], b: &[Vec<f32>]) {
    let norm = |g: &[Vec<f32>]| g.iter().flatten().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    let difference: Vec<Vec<f32>> =
        a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(x, y)| x - y).collect()).collect();
    assert!(norm(a) > 1e-3, "a gradient of zero shows nothing");
    assert!(norm(&difference) <= SAME_GRADIENTS * norm(a), "{} of {}", norm(&difference), norm(a));
}

#[rstest]
fn the_shared_prompt_and_recomputed_blocks_change_no_gradient(
    #[files("../../tests/golden/*/golden.json")] family: PathBuf,
    #[values(true, false)] adapter: bool,
) {
    let name = golden_name(&family);
    on_the_backend!(check_same_gradients(name: &'a str, adapter: bool));
}

fn check_same_gradients<B: FusedOps>(device: &B::Device, name: &str, adapter: bool) {
    let plain = gradients::<B>(device, name, adapter, false, ALL, None);
    assert_same_gradients(&plain, &gradients::<B>(device, name, adapter, true, ALL, None));
    assert_same_gradients(&plain, &gradients::<B>(device, name, adapter, true, 0, None));
}

#[rstest]
fn recomputed_blocks_draw_the_same_dropout(
    #[values("llama", "smollm3", "phi3", "olmo2", "gemma2", "mixtral", "qwen3_5_text")] name: &str,
) {
    on_the_backend!(check_dropout(name: &'a str));
}

fn check_dropout<B: FusedOps>(device: &B::Device, name: &str) {
    let key = DropoutKey { seed: 1, step: 2 };
    let kept = gradients::<B>(device, name, true, true, ALL, Some(key));
    assert_eq!(kept, gradients::<B>(device, name, true, true, 0, Some(key)), "to the last bit");
    assert_same_gradients(&kept, &gradients::<B>(device, name, true, false, ALL, Some(key)));
    let other = gradients::<B>(device, name, true, true, ALL, Some(DropoutKey { step: 4, ..key }));
    assert!(kept != other, "another step must draw another mask");
}

#[rstest]
fn gradients_agree_with_finite_differences(
    #[values("qwen3", "phi3", "olmo2", "gemma2", "mixtral", "qwen3_5_text")] name: &str,
) {
    on_the_backend!(check_finite_differences(name: &'a str));
}

fn check_finite_differences<B: FusedOps>(device: &B::Device, name: &str) {
    let groups = groups(&rows(name)[..1]);
    let batch = GroupBatch::shared(&groups);
    let mut model = open::<B>(device, name, false, Trainable::Base);
    let (_, tape) = model.forward(&batch, ForwardOptions::PLAIN).expect("a forward pass");
    model.backward(tape, &[vec![1.0, -1.0, 0.5, 0.25]]).expect("a backward pass");
    let value = |model: &CausalLm<B>| {
        let s = sums(&model.score(&batch, true, None).expect("scores"));
        s[0] - s[1] + 0.5 * s[2] + 0.25 * s[3]
    };
    for index in model.trainable() {
        // Along the gradient itself: the directional derivative is its norm.
        let gradient = model.take_gradient(index).expect("a gradient");
        let norm = crate::host::floats(gradient.clone()).iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        let original = model.parameter(index).clone();
        // A step large enough that the change is far above float32's rounding of the log-probs: at a sixteenth of it,
        // rounding alone makes mixtral's embedding 2 to 3 % off.
        let step = 3.2e-2 / norm.max(1.0);
        let moved = |sign: f64| original.clone() + gradient.clone().mul_scalar(sign * step / norm);
        model.set_parameter(index, moved(1.0));
        let above = value(&model);
        model.set_parameter(index, moved(-1.0));
        let below = value(&model);
        model.set_parameter(index, original.clone());
        let found = (above - below) / (2.0 * step);
        let name = &model.parameters()[index].name;
        assert!((found - norm).abs() <= 0.01 * norm + 1e-3 / step * 1e-3, "{name}: {found} against {norm}");
    }
}

#[rstest]
fn generation_with_a_cache_agrees_with_scoring(
    #[files("../../tests/golden/*/golden.json")] family: PathBuf,
    #[values(false, true)] adapter: bool,
) {
    let name = golden_name(&family);
    on_the_backend!(check_generation(name: &'a str, adapter: bool));
}

fn check_generation<B: FusedOps>(device: &B::Device, name: &str, adapter: bool) {
    let prompts: Vec<EncodedPrompt> = groups(&rows(name)).into_iter().map(|g| g.prompt_ids.into()).collect();
    let model = open::<B>(device, name, adapter, Trainable::Nothing);
    let options = GenerateOptions { max_new_tokens: 12, num_samples: 2, ..GenerateOptions::default() };
    let generated = model.generate(&prompts, &options, |_| ()).expect("continuations");
    for (prompt, samples) in prompts.iter().zip(&generated) {
        assert_eq!(samples[0], samples[1], "greedy samples are the same");
        // Finds the most likely token at a position without a cache, by scoring the whole vocabulary there.
        for at in [0, 5, 11] {
            let mut prefix = prompt.ids.clone();
            prefix.extend(&samples[0][..at]);
            let response = |id| TokenizedResponse { ids: vec![id], reward: 0.0, num_cut: 0 };
            let everything = TokenizedGroup {
                index: 0,
                line: 1,
                prompt_ids: prefix,
                responses: (0..640).map(response).collect(),
                ..TokenizedGroup::default()
            };
            let logps = sums(&model.score(&GroupBatch::shared([&everything]), true, None).expect("scores"));
            let best = logps.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert!(best - logps[samples[0][at] as usize] < 1e-4, "token {at} of {name} is not the most likely");
        }
    }
}

#[test]
fn a_sample_does_not_depend_on_what_else_is_generated() {
    on_the_backend!(check_samples());
}

fn check_samples<B: FusedOps>(device: &B::Device) {
    let prompts: Vec<EncodedPrompt> = groups(&rows("llama")).into_iter().map(|g| g.prompt_ids.into()).collect();
    let model = open::<B>(device, "llama", false, Trainable::Nothing);
    let options = GenerateOptions {
        max_new_tokens: 10,
        num_samples: 3,
        temperature: 1.0,
        seed: 5,
        ends: TurnEnds::of_ids((0..200).collect()),
        ..GenerateOptions::default()
    };
    let all = model.generate(&prompts, &options, |_| ()).expect("continuations");
    let alone = model.generate(&prompts[..1], &options, |_| ()).expect("continuations");
    assert_eq!(all[0], alone[0]);
    assert_ne!(all[0][0], all[0][1], "samples at temperature 1 differ");
    // More samples than are decoded together.
    let many = GenerateOptions { num_samples: 300, ..options };
    let many = model.generate(&prompts[..1], &many, |_| ()).expect("continuations");
    assert_eq!((many[0].len(), &many[0][..3]), (300, &all[0][..]));
    let (first, second) = (&many[0][..100], &many[0][200..]);
    assert_ne!(first, second, "later samples have draws of their own");
}
