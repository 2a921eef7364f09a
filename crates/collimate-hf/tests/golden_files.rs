//! Reads the golden model folders and adapters, written by transformers and PEFT, and checks their contents.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use collimate_hf::{
    Activation, Adapter, Experts, MergeOptions, ModelConfig, NormPlacement, QkNorm, RopeScaling, StorageDtype,
    WeightCheck, WeightFiles, merge_adapter,
};
use collimate_oracle::{golden_dir, golden_name};
use rstest::rstest;

fn golden(part: &str) -> PathBuf {
    golden_dir().join(part)
}

#[rstest]
#[case("llama", "llama", false, 149_824)]
#[case("llama.sharded", "llama", false, 149_824)]
#[case("llama3", "llama", true, 149_824 - 640 * 64)]
#[case("mistral", "mistral", false, 149_824)]
#[case("qwen2", "qwen2", true, 149_824 - 640 * 64 + 2 * (64 + 32 + 32))]
#[case("qwen3", "qwen3", false, 149_824 + 2 * (2 * 32 * 64 + 2 * 16 * 64 + 2 * 24))]
#[case("smollm3", "smollm3", true, 149_824 - 640 * 64)]
#[case("phi3", "phi3", false, 149_824)]
#[case("olmo2", "olmo2", false, 149_824 + 2 * (64 + 32))]
#[case("gemma2", "gemma2", true, 149_824 - 640 * 64 + 2 * 2 * 64)]
#[case("mixtral", "mixtral", false, 149_824 + 2 * (3 * 3 * 112 * 64 + 4 * 64))]
#[case("granite", "granite", true, 640 * 64 + 4 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 112 + 2 * 64) + 64)]
fn model_folders_pass_the_strict_check(
    #[case] name: &str,
    #[case] model_type: &str,
    #[case] tied: bool,
    #[case] num_parameters: usize,
) {
    let dir = golden("models").join(name);
    let config = ModelConfig::from_dir(&dir).unwrap();
    assert_eq!(config.family.model_type, model_type);
    assert_eq!(config.tie_word_embeddings, tied);
    assert_eq!(config.num_parameters(), num_parameters);
    let gelu = model_type == "gemma2";
    assert_eq!(config.hidden_act, if gelu { Activation::GeluTanh } else { Activation::Silu });
    assert_eq!(config.rms_norm_eps, 1e-5);
    let weights = WeightFiles::open(&dir).unwrap();
    let specs = config.tensors();
    assert_eq!(weights.check(&specs).unwrap(), WeightCheck { num_tensors: specs.len(), ..WeightCheck::default() });
    for spec in specs {
        let tensor = weights.read(&spec.name).unwrap();
        assert_eq!(tensor.shape, spec.shape);
        assert_eq!(tensor.data.len(), spec.num_elements());
        assert!(tensor.data.iter().all(|x| x.is_finite()), "{}", spec.name);
    }
}

/// Golden models have width 64, two layers, and a vocabulary of 640.
#[rstest]
#[case("llama", 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 112))]
#[case("qwen2", 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 112))]
#[case("phi3", 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 112))]
#[case("mixtral", 2 * (2 * 64 * 64 + 2 * 32 * 64 + 2 * 3 * 64 * 112 + 4 * 64))]
fn operations_are_those_of_a_tokens_matrices(#[case] name: &str, #[case] weights: u64) {
    let config = ModelConfig::from_dir(&golden("models").join(name)).unwrap();
    assert_eq!(config.operations_per_token(), 2 * (weights + 640 * 64));
}

#[test]
fn sharded_bf16_weights_are_the_rounded_single_file() {
    let whole = WeightFiles::open(&golden("models/llama")).unwrap();
    let shards = WeightFiles::open(&golden("models/llama.sharded")).unwrap();
    assert_eq!(shards.paths().count(), 4);
    for name in whole.names() {
        let rounded = whole.read(name).unwrap().data.into_iter().map(|x| StorageDtype::BF16.round(x));
        assert!(rounded.eq(shards.read(name).unwrap().data), "{name}");
    }
}

#[test]
fn both_generations_of_fields_are_read() {
    let config = |name: &str| ModelConfig::from_dir(&golden("models").join(name)).unwrap();
    let new = config("qwen3");
    assert_eq!((new.rope_theta, new.rope_scaling), (10_000.0, RopeScaling::Default));
    assert_eq!((new.head_dim, new.qk_norm), (24, QkNorm::Head));
    assert_eq!(new.layer_windows, [None, None]);
    let old = config("llama3");
    assert_eq!(old.rope_theta, 500_000.0);
    assert_eq!(
        old.rope_scaling,
        RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 64
        }
    );
    assert_eq!(old.dtype.as_deref(), Some("float32"));
    assert_eq!(config("llama.sharded").dtype.as_deref(), Some("bfloat16"));
    let mistral = config("mistral");
    assert_eq!(mistral.layer_windows, [Some(24), Some(24)]);
    assert_eq!((mistral.bos_token_id, mistral.eos_token_ids), (Some(3), vec![4]));
}

#[test]
fn what_only_some_architectures_have_is_read() {
    let config = |name: &str| ModelConfig::from_dir(&golden("models").join(name)).unwrap();
    let smollm3 = config("smollm3");
    assert_eq!((smollm3.rotated_layers, smollm3.rope_theta), (vec![true, false], 2e6));
    let phi3 = config("phi3");
    assert_eq!((phi3.fused_projections, phi3.rotary_dim, phi3.rope_scaling), (true, 16, RopeScaling::Default));
    let olmo2 = config("olmo2");
    assert_eq!((olmo2.norm_placement, olmo2.qk_norm), (NormPlacement::After, QkNorm::Projection));
    let gemma2 = config("gemma2");
    assert_eq!((gemma2.attention_softcap, gemma2.logit_softcap), (Some(50.0), Some(30.0)));
    assert_eq!((gemma2.attention_scale, gemma2.embedding_scale), (0.25, Some(8.0)));
    assert_eq!((gemma2.norm_placement, gemma2.norm_offset), (NormPlacement::BeforeAndAfter, true));
    assert_eq!(gemma2.layer_windows, [Some(24), None]);
    let mixtral = config("mixtral");
    assert_eq!(
        mixtral.experts,
        Some(Experts { count: 4, per_token: 2, balance_weight: 0.001, balances_by_default: false })
    );
    assert_eq!((mixtral.layer_windows, mixtral.rope_theta), (vec![None, None], 1e6));
}

/// Linear layers of a block that its golden adapter changes: four of attention and three of the feed-forward layer; two
/// and two if they are fused; none of the experts.
fn modules_of_layer(name: &str) -> usize {
    if matches!(name, "phi3" | "mixtral") { 4 } else { 7 }
}

#[rstest]
fn adapters_are_read_written_and_read_again(#[files("../../tests/golden/*/golden.json")] family: PathBuf) {
    let name = golden_name(&family);
    let config = ModelConfig::from_dir(&golden("models").join(name)).unwrap();
    let adapter = Adapter::read(&golden("adapters").join(name), &config).unwrap();
    assert_eq!(adapter.modules().len(), config.num_hidden_layers * modules_of_layer(name));
    assert_eq!((adapter.config.r, adapter.config.alpha, adapter.config.scale()), (4, 8.0, 8.0 / 4.0));
    assert!(
        adapter.modules().into_iter().all(|module| adapter.factors(module).unwrap().1.data.iter().any(|x| *x != 0.0)),
        "B is trained"
    );
    let dir = tempfile::tempdir().unwrap();
    adapter.write(dir.path()).unwrap();
    assert_eq!(Adapter::read(dir.path(), &config).unwrap(), adapter);
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let config = ModelConfig::from_dir(&golden("models/llama")).unwrap();
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
#[case("gemma2", Some(StorageDtype::BF16), StorageDtype::BF16)]
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
    let config = ModelConfig::from_dir(out.path()).unwrap();
    let adapter = Adapter::read(&adapter_dir, &config).unwrap();
    assert_eq!((summary.num_merged, summary.dtype, summary.scale), (2 * modules_of_layer(name), dtype, 2.0));
    assert_eq!(config.dtype.as_deref(), Some(dtype.name()));
    assert!(out.path().join("tokenizer.json").is_file() && out.path().join("generation_config.json").is_file());
    let (base, merged) = (WeightFiles::open(&model).unwrap(), WeightFiles::open(out.path()).unwrap());
    for spec in config.tensors() {
        let (w, found) = (base.read(&spec.name).unwrap().data, merged.read(&spec.name).unwrap().data);
        let Some((a, b)) = spec.name.strip_suffix(".weight").and_then(|module| adapter.factors(module)) else {
            assert!(w.iter().map(|x| dtype.round(*x)).eq(found), "{}", spec.name);
            continue;
        };
        let width = spec.shape[1];
        for (place, found) in found.into_iter().enumerate() {
            let (row, column) = (place / width, place % width);
            let product: f64 =
                (0..4).map(|k| f64::from(b.data[row * 4 + k]) * f64::from(a.data[k * width + column])).sum();
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
