//! The golden model folders and adapters, written by transformers and PEFT, are read and hold what they should.

use std::path::{Path, PathBuf};

use rstest::rstest;

use crate::{Activation, Architecture, ModelConfig, RopeScaling, WeightCheck, WeightFiles};

fn golden(part: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/parity/golden").join(part);
    assert!(path.exists(), "the golden files must be there: {}", path.display());
    path
}

#[rstest]
#[case("llama", Architecture::Llama, false, 149_824)]
#[case("llama.sharded", Architecture::Llama, false, 149_824)]
#[case("llama3", Architecture::Llama, true, 149_824 - 640 * 64)]
#[case("mistral", Architecture::Mistral, false, 149_824)]
#[case("qwen2", Architecture::Qwen2, true, 149_824 - 640 * 64 + 2 * (64 + 32 + 32))]
#[case("qwen3", Architecture::Qwen3, false, 149_824 + 2 * (2 * 32 * 64 + 2 * 16 * 64 + 2 * 24))]
fn model_folders_pass_the_strict_check(
    #[case] name: &str,
    #[case] architecture: Architecture,
    #[case] tied: bool,
    #[case] num_parameters: usize,
) {
    let dir = golden("models").join(name);
    let config = ModelConfig::from_dir(&dir).unwrap();
    assert_eq!(config.architecture, architecture);
    assert_eq!(config.tie_word_embeddings, tied);
    assert_eq!(config.num_parameters(), num_parameters);
    assert_eq!(config.hidden_act, Activation::Silu);
    assert_eq!(config.rms_norm_eps, 1e-5);
    let weights = WeightFiles::open(&dir).unwrap();
    let specs = config.tensors();
    assert_eq!(weights.check(&specs).unwrap(), WeightCheck { num_tensors: specs.len(), num_ignored: 0 });
    for spec in specs {
        let tensor = weights.read(&spec.name).unwrap();
        assert_eq!(tensor.shape, spec.shape);
        assert_eq!(tensor.data.len(), spec.num_elements());
        assert!(tensor.data.iter().all(|x| x.is_finite()), "{}", spec.name);
    }
}

#[test]
fn sharded_bf16_weights_are_the_rounded_single_file() {
    let whole = WeightFiles::open(&golden("models/llama")).unwrap();
    let shards = WeightFiles::open(&golden("models/llama.sharded")).unwrap();
    assert_eq!(shards.paths().count(), 4);
    for name in whole.names() {
        let rounded = whole.read(name).unwrap().data.into_iter().map(|x| crate::StorageDtype::BF16.round(x));
        assert!(rounded.eq(shards.read(name).unwrap().data), "{name}");
    }
}

#[test]
fn both_generations_of_fields_are_read() {
    let config = |name: &str| ModelConfig::from_dir(&golden("models").join(name)).unwrap();
    let new = config("qwen3");
    assert_eq!((new.rope_theta, new.rope_scaling), (10_000.0, RopeScaling::Default));
    assert_eq!((new.head_dim, new.qk_norm), (24, true));
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

#[rstest]
#[case("gemma2")]
#[case("mixtral")]
#[case("olmo2")]
#[case("phi3")]
#[case("smollm3")]
fn other_architectures_are_refused_by_name(#[case] name: &str) {
    let error = ModelConfig::from_dir(&golden("models").join(name)).unwrap_err().to_string();
    assert!(error.contains(&format!("architecture \"{name}\" is not supported")), "{error}");
    assert!(error.ends_with("supported: llama, mistral, qwen2, qwen3"), "{error}");
}
