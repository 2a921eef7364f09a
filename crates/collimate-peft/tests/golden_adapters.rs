//! Reads and merges the golden adapters, written by PEFT.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use collimate_hf::{HostTensor, LinearSpec, ModelConfig};
use collimate_oracle::{golden_dir, golden_name};
use collimate_peft::{Adapter, MergeOptions, merge_adapter};
use collimate_weights::{StorageDtype, WeightFiles, read_config};
use rstest::rstest;

fn golden(part: &str) -> PathBuf {
    golden_dir().join(part)
}

/// Linear layers of a block that its golden adapter changes: four of attention and three of the feed-forward layer; two
/// and two if they are fused; of models with experts, only all six of qwen3_moe.
fn modules_of_layer(name: &str) -> usize {
    match name {
        "phi3" | "mixtral" | "glm4_moe" | "gpt_oss" => 4,
        "qwen3_moe" => 4 + 6 * 3,
        "qwen3_5_moe_text" => 4 + 2,
        _ => 7,
    }
}

/// The matrices A and B of a linear layer, by the names that the adapter's settings give them.
fn factors<'a>(adapter: &'a Adapter, config: &ModelConfig, module: &str) -> Option<(&'a HostTensor, &'a HostTensor)> {
    let names = adapter.config.factors_of(config, module)?;
    Some((&adapter.tensors[&names.a], &adapter.tensors[&names.b]))
}

#[rstest]
fn adapters_are_read_written_and_read_again(#[files("../../tests/golden/*/golden.json")] family: PathBuf) {
    let name = golden_name(&family);
    let config = read_config(&golden("models").join(name)).unwrap();
    let adapter = Adapter::read(&golden("adapters").join(name), &config).unwrap();
    let changed = adapter.config.target_modules(&config).unwrap();
    // A layer with a state has its queries, keys and values from one projection, and three more.
    let more = config.linear_layers.iter().filter(|is_linear| **is_linear).count();
    assert_eq!(changed.len(), config.num_hidden_layers * modules_of_layer(name) + more);
    assert_eq!((adapter.config.r, adapter.config.alpha, adapter.config.scale()), (4, 8.0, 8.0 / 4.0));
    let is_trained = |linear: &LinearSpec| {
        let (_, b) = factors(&adapter, &config, &linear.module).unwrap();
        b.data.iter().any(|x| *x != 0.0)
    };
    assert!(changed.iter().all(is_trained), "B is trained");
    let dir = tempfile::tempdir().unwrap();
    adapter.write(dir.path()).unwrap();
    assert_eq!(Adapter::read(dir.path(), &config).unwrap(), adapter);
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let config = read_config(&golden("models/llama")).unwrap();
    let error = Adapter::read(&golden("adapters/qwen3"), &config).unwrap_err().to_string();
    let expected = "tensor \"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight\": \
                    expected shape [64, 4], found [96, 4]";
    assert!(error.ends_with(expected), "{error}");
    let error = Adapter::read(&golden("adapters/phi3"), &config).unwrap_err().to_string();
    assert!(error.contains("mlp.gate_up_proj.lora_A.weight\" matches no linear module of the model"), "{error}");
}

#[rstest]
#[case("qwen3", None, StorageDtype::F32)]
#[case("qwen2", Some(StorageDtype::BF16), StorageDtype::BF16)]
#[case("llama3", Some(StorageDtype::F16), StorageDtype::F16)]
#[case("phi3", None, StorageDtype::F32)]
#[case("mixtral", None, StorageDtype::F32)]
#[case("qwen3_moe", None, StorageDtype::F32)]
#[case("gemma2", Some(StorageDtype::BF16), StorageDtype::BF16)]
#[case("glm4_moe", None, StorageDtype::F32)]
#[case("gpt_oss", None, StorageDtype::F32)]
fn a_merged_model_is_the_base_plus_the_scaled_product(
    #[case] name: &str,
    #[case] asked: Option<StorageDtype>,
    #[case] dtype: StorageDtype,
) {
    let (model, adapter_dir) = (golden("models").join(name), golden("adapters").join(name));
    let out = tempfile::tempdir().unwrap();
    let summary =
        merge_adapter(&model, &adapter_dir, out.path(), MergeOptions { dtype: asked, ..MergeOptions::default() })
            .unwrap();
    let config = read_config(out.path()).unwrap();
    let adapter = Adapter::read(&adapter_dir, &config).unwrap();
    let num_merged = config.num_hidden_layers * modules_of_layer(name);
    assert_eq!((summary.num_merged, summary.dtype, summary.scale), (num_merged, dtype, 2.0));
    assert_eq!(config.dtype.as_deref(), Some(dtype.name()));
    assert!(out.path().join("tokenizer.json").is_file() && out.path().join("generation_config.json").is_file());
    let (base, merged) = (WeightFiles::open(&model).unwrap(), WeightFiles::open(out.path()).unwrap());
    for spec in config.tensors() {
        let (w, found) = (base.read(&spec.name).unwrap().data, merged.read(&spec.name).unwrap().data);
        let module = spec.name.strip_suffix(".weight");
        let Some((a, b)) = module.and_then(|module| factors(&adapter, &config, module)) else {
            assert!(w.iter().map(|x| dtype.round(*x)).eq(found), "{}", spec.name);
            continue;
        };
        let (width, r) = (spec.shape[1], a.shape[0]);
        for (place, found) in found.into_iter().enumerate() {
            let (row, column) = (place / width, place % width);
            let product: f64 =
                (0..r).map(|k| f64::from(b.data[row * r + k]) * f64::from(a.data[k * width + column])).sum();
            let expected = f64::from(w[place]) + 2.0 * product;
            let tolerance = match dtype {
                StorageDtype::F32 => 1e-6,
                StorageDtype::F16 => 2.0_f64.powi(-11),
                StorageDtype::BF16 => 2.0_f64.powi(-8),
            };
            assert!((f64::from(found) - expected).abs() <= tolerance * (1.0 + expected.abs()), "{}", spec.name);
        }
    }
}
