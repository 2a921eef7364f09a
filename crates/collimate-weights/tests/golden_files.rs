//! Reads the golden model folders, written by transformers, and checks their contents.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use collimate_hf::{Activation, Experts, NormPlacement, QkNorm, RopeScaling};
use collimate_oracle::golden_dir;
use collimate_weights::{StorageDtype, WeightCheck, WeightFiles, read_config};
use rstest::rstest;

fn golden(part: &str) -> PathBuf {
    golden_dir().join(part)
}

/// Matrices and norms of a block's attention half, and both norms before its halves.
const ATTENTION: usize = 2 * 64 * 64 + 2 * 32 * 64 + 2 * 64;
/// One dense block and two with eight experts and a layer beside them, all with biases on queries, keys and values.
const GLM4_MOE_BLOCKS: usize =
    3 * (ATTENTION + 64 + 2 * 32 + 2 * 16) + 3 * 64 * 112 + 2 * ((8 + 2) * 3 * 64 * 40 + 8 * 64 + 8);
/// Biases everywhere, sinks of four heads, five experts.
const GPT_OSS_BLOCK: usize = ATTENTION + 2 * 64 + 2 * 32 + 4 + 5 * (3 * 64 * 96 + 2 * 96 + 64) + 5 * 64 + 5;

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
#[case("qwen3_moe", "qwen3_moe", false, 149_824 - 2 * 3 * 112 * 64 + 2 * (6 * 3 * 48 * 64 + 6 * 64 + 2 * 16))]
#[case("gemma3_text", "gemma3_text", true, 640 * 64 + 7 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 112 + 4 * 64 + 2 * 16) + 64)]
#[case("olmo3", "olmo3", false, 2 * 640 * 64 + 4 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 112 + 2 * 64 + 64 + 32) + 64)]
#[case("ministral3", "ministral3", false, 149_824)]
#[case("granite", "granite", true, 640 * 64 + 4 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 112 + 2 * 64) + 64)]
#[case("glm4_moe", "glm4_moe", false, 2 * 640 * 64 + 64 + GLM4_MOE_BLOCKS)]
#[case("gpt_oss", "gpt_oss", false, 2 * 640 * 64 + 64 + 3 * GPT_OSS_BLOCK)]
fn model_folders_pass_the_strict_check(
    #[case] name: &str,
    #[case] model_type: &str,
    #[case] tied: bool,
    #[case] num_parameters: usize,
) {
    let dir = golden("models").join(name);
    let config = read_config(&dir).unwrap();
    assert_eq!(config.family.model_type, model_type);
    assert_eq!(config.tie_word_embeddings, tied);
    assert_eq!(config.num_parameters(), num_parameters);
    let gelu = model_type.starts_with("gemma");
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
#[case("qwen3_moe", 2 * (2 * 64 * 64 + 2 * 32 * 64 + 2 * 3 * 64 * 48 + 6 * 64))]
fn operations_are_those_of_a_tokens_matrices(#[case] name: &str, #[case] weights: u64) {
    let config = read_config(&golden("models").join(name)).unwrap();
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
    let config = |name: &str| read_config(&golden("models").join(name)).unwrap();
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
    let config = |name: &str| read_config(&golden("models").join(name)).unwrap();
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
        Some(Experts { balance_weight: 0.001, ..Experts::plain(4, 2, mixtral.intermediate_size) })
    );
    assert_eq!((mixtral.layer_windows, mixtral.rope_theta), (vec![None, None], 1e6));
}
