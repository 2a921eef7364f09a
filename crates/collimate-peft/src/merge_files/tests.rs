use collimate_hf::HostTensor;
use collimate_oracle::{StoredTensor, safetensors_file};
use collimate_quantized::{Dtype, Format, PackedMatrix, TensorPiece, Values};
use collimate_weights::{read_config, write_model};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::config::{LoraConfig, LoraTargets};

/// A model folder and an adapter folder of rank 1 on q_proj with A = [1, 2, 3, 4], B = [1, 0, -1, 2], scale 2.
fn folders(root: &Path) -> (PathBuf, PathBuf) {
    let value = json!({
        "model_type": "llama", "vocab_size": 8, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "dtype": "float16",
    });
    let config = ModelConfig::from_json(Path::new("config.json"), value).unwrap();
    let ones = |shape: &[usize]| HostTensor::new(shape, vec![1.0; shape.iter().product()]);
    let tensors = config.tensors().into_iter().map(|spec| (spec.name, ones(&spec.shape)));
    let (model, adapter) = (root.join("model"), root.join("adapter"));
    write_model(&model, &config, tensors, StorageDtype::F16, ShardSize::default()).unwrap();
    fs::write(model.join("tokenizer.json"), "{}").unwrap();
    let a = HostTensor::new([1, 4], vec![1.0, 2.0, 3.0, 4.0]);
    let b = HostTensor::new([4, 1], vec![1.0, 0.0, -1.0, 2.0]);
    let modules = [("model.layers.0.self_attn.q_proj".to_owned(), (a, b))];
    let targets = LoraTargets::Names(vec!["q_proj".to_owned()]);
    Adapter::of_factors(LoraConfig::new(1, 2.0, targets), modules).write(&adapter).unwrap();
    (model, adapter)
}

#[rstest]
#[case(None, StorageDtype::F16)]
#[case(Some(StorageDtype::F32), StorageDtype::F32)]
fn the_product_is_added_and_the_rest_kept(#[case] asked: Option<StorageDtype>, #[case] dtype: StorageDtype) {
    let root = tempfile::tempdir().unwrap();
    let (model, adapter) = folders(root.path());
    let out = root.path().join("merged");
    let summary =
        merge_adapter(&model, &adapter, &out, MergeOptions { dtype: asked, ..MergeOptions::default() }).unwrap();
    let expected = MergeSummary {
        num_tensors: 12,
        num_merged: 1,
        scale: 2.0,
        dtype,
        largest_change: 2.0 * 2.0 * 4.0,
        copied: vec![out.join("tokenizer.json")],
        notes: Vec::new(),
    };
    assert_eq!(summary, expected);
    let weights = WeightFiles::open(&out).unwrap();
    let q = weights.read("model.layers.0.self_attn.q_proj.weight").unwrap().data;
    let row = |b: f32| [1.0, 2.0, 3.0, 4.0].map(|a| 1.0 + 2.0 * b * a);
    assert_eq!(q, [row(1.0), row(0.0), row(-1.0), row(2.0)].concat());
    assert_eq!(weights.read("model.layers.0.self_attn.o_proj.weight").unwrap().data, [1.0; 16]);
    assert_eq!(weights.dtype("lm_head.weight").and_then(StorageDtype::from_stored), Some(dtype));
}

/// The folders with q_proj of the model packed into NF4.
fn packed_folders(root: &Path) -> (PathBuf, PathBuf) {
    let (model, adapter) = folders(root);
    let weights = WeightFiles::open(&model).unwrap();
    let mut tensors = Vec::new();
    for name in weights.names() {
        let HostTensor { shape, data } = weights.read(name).unwrap();
        let pieces = if name.ends_with("q_proj.weight") {
            let packed = PackedMatrix::pack(Values::F32(&data), shape[0], shape[1], Format::NF4).unwrap();
            packed.to_pieces(name).unwrap()
        } else {
            let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into();
            vec![(name.to_owned(), TensorPiece { dtype: Dtype::F32, shape, bytes })]
        };
        tensors.extend(pieces.into_iter().map(|(name, piece)| StoredTensor {
            name,
            dtype: piece.dtype.name().to_owned(),
            shape: piece.shape,
            bytes: piece.bytes.to_vec(),
        }));
    }
    fs::write(model.join("model.safetensors"), safetensors_file(&tensors)).unwrap();
    let mut config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(model.join("config.json")).unwrap()).unwrap();
    config["quantization_config"] =
        json!({"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"});
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    (model, adapter)
}

#[rstest]
#[case(None, StorageDtype::BF16)]
#[case(Some(StorageDtype::F32), StorageDtype::F32)]
fn packed_weights_are_unpacked_and_a_note_says_so(#[case] asked: Option<StorageDtype>, #[case] dtype: StorageDtype) {
    let root = tempfile::tempdir().unwrap();
    let (model, adapter) = packed_folders(root.path());
    let out = root.path().join("merged");
    let options = MergeOptions { dtype: asked, ..MergeOptions::default() };
    let summary = merge_adapter(&model, &adapter, &out, options).unwrap();
    let expected =
        format!("{}: 1 weights in nf4 were unpacked, and the merged model is in {}", model.display(), dtype.name());
    assert_eq!(summary.notes, [expected]);
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("config.json")).unwrap()).unwrap();
    assert_eq!((config.get("quantization_config"), &config["dtype"]), (None, &json!(dtype.name())));
    let weights = WeightFiles::open(&out).unwrap();
    let stored: Vec<_> = weights.names().map(|name| weights.dtype(name).and_then(StorageDtype::from_stored)).collect();
    assert_eq!(stored, [Some(dtype); 12]);
    // Of ones, the largest of each block, packing keeps every digit.
    let q = weights.read("model.layers.0.self_attn.q_proj.weight").unwrap().data;
    let row = |b: f32| [1.0, 2.0, 3.0, 4.0].map(|a| 1.0 + 2.0 * b * a);
    assert_eq!(q, [row(1.0), row(0.0), row(-1.0), row(2.0)].concat());
}

#[test]
fn a_tokenizer_that_the_adapter_brings_is_the_merged_models() {
    let root = tempfile::tempdir().unwrap();
    let (model, adapter) = folders(root.path());
    fs::write(model.join("chat_template.jinja"), "old").unwrap();
    fs::write(model.join("generation_config.json"), r#"{"eos_token_id": 2, "top_k": 5}"#).unwrap();
    fs::write(adapter.join("tokenizer.json"), "[]").unwrap();
    let out = root.path().join("merged");
    merge_adapter(&model, &adapter, &out, MergeOptions::default()).unwrap();
    assert_eq!(fs::read_to_string(out.join("tokenizer.json")).unwrap(), "[]");
    assert!(!out.join("chat_template.jinja").exists());
    assert!(fs::read_to_string(out.join("generation_config.json")).unwrap().contains("top_k"));
}

#[test]
fn a_merged_model_is_divided_as_asked_and_read_again() {
    let root = tempfile::tempdir().unwrap();
    let (model, adapter) = folders(root.path());
    let out = root.path().join("merged");
    // float16: the embedding's 8·4 values are 64 bytes, and no other tensor is larger.
    let options = MergeOptions { max_shard_size: ShardSize::from_bytes(64).unwrap(), ..MergeOptions::default() };
    merge_adapter(&model, &adapter, &out, options).unwrap();
    let index: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("model.safetensors.index.json")).unwrap()).unwrap();
    let config = read_config(&out).unwrap();
    assert_eq!(index["metadata"]["total_size"], 2 * config.num_parameters());
    assert_eq!(index["weight_map"].as_object().unwrap().len(), 12);
    let weights = WeightFiles::open(&out).unwrap();
    assert!(weights.paths().count() > 5 && !out.join("model.safetensors").exists());
    for path in weights.paths() {
        assert!(path.metadata().unwrap().len() < 64 + 1000, "{}", path.display());
    }
}

#[rstest]
#[case("model", "it is the folder of the model or of the adapter")]
#[case("adapter/../adapter", "it is the folder of the model or of the adapter")]
#[case("other", "it holds a model's weights already")]
#[case("notes", "it holds \"notes.txt\"; a merged model gets a folder of its own, new or empty")]
#[case("notes/notes.txt", "it is a file, and the output is a folder")]
fn existing_weights_are_never_overwritten(#[case] out: &str, #[case] expected: &str) {
    let root = tempfile::tempdir().unwrap();
    let (model, adapter) = folders(root.path());
    fs::create_dir(root.path().join("other")).unwrap();
    fs::write(root.path().join("other/model-00001-of-00002.safetensors"), "").unwrap();
    fs::create_dir(root.path().join("notes")).unwrap();
    fs::write(root.path().join("notes/notes.txt"), "mine").unwrap();
    let before = fs::read(model.join("model.safetensors")).unwrap();
    let error = merge_adapter(&model, &adapter, &root.path().join(out), MergeOptions::default()).unwrap_err();
    assert!(matches!(&error, HfError::OutputTaken { reason, .. } if reason == expected), "{error}");
    assert_eq!(fs::read(model.join("model.safetensors")).unwrap(), before);
}

#[test]
fn a_difference_in_what_was_written_is_found() {
    let root = tempfile::tempdir().unwrap();
    let (model, adapter) = folders(root.path());
    let config = read_config(&model).unwrap();
    let adapter = Adapter::read(&adapter, &config).unwrap();
    let weights = WeightFiles::open(&model).unwrap();
    // The base model is not the merged one.
    let source = Source { weights: &weights, adapter: &adapter, model: &config };
    let error = read_back(&model, &source, StorageDtype::F16).unwrap_err().to_string();
    assert!(
        error.ends_with("tensor \"model.layers.0.self_attn.q_proj.weight\" read back differs from what was written")
    );
}

#[rstest]
#[case::infinite(3e38, StorageDtype::F32, "value 0 would be inf")]
#[case::infinite_in_float16(3e38, StorageDtype::F16, "value 0 would be inf")]
#[case::too_large_for_float16(4e4, StorageDtype::F16, "80001 does not fit float16")]
#[case::too_large_for_bfloat16(f32::MAX / 2.0, StorageDtype::BF16, "does not fit bfloat16")]
fn weights_that_are_not_finite_are_never_saved(#[case] a: f32, #[case] dtype: StorageDtype, #[case] expected: &str) {
    let root = tempfile::tempdir().unwrap();
    let (model, _) = folders(root.path());
    let adapter = root.path().join("overflows");
    let factors = (HostTensor::new([1, 4], vec![a; 4]), HostTensor::new([4, 1], vec![1.0; 4]));
    let targets = LoraTargets::Names(vec!["q_proj".to_owned()]);
    let modules = [("model.layers.0.self_attn.q_proj".to_owned(), factors)];
    Adapter::of_factors(LoraConfig::new(1, 2.0, targets), modules).write(&adapter).unwrap();
    let before = fs::read_dir(root.path()).unwrap().count();
    // In one file, and in several of which an earlier one is complete by then.
    for max_shard_size in [ShardSize::default(), ShardSize::from_bytes(64).unwrap()] {
        let options = MergeOptions { dtype: Some(dtype), max_shard_size };
        let error = merge_adapter(&model, &adapter, &root.path().join("out"), options).unwrap_err();
        assert!(matches!(&error, HfError::Unsaved(_)), "{error}");
        let error = error.to_string();
        assert!(error.contains("tensor \"model.layers.0.self_attn.q_proj.weight\": "), "{error}");
        assert!(error.contains(expected) && error.contains("never saved"), "{error}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), before, "nothing was written");
    }
}
