//! A model's shards.

use std::fs;
use std::path::Path;

use collimate_files::ShardSize;
use collimate_hf::{HfError, HostTensor, ModelConfig, TensorSpec};
use collimate_weights::{StorageDtype, WeightFiles, read_config, write_model};
use rstest::rstest;
use serde_json::json;

fn tiny_config() -> ModelConfig {
    let value = json!({
        "model_type": "llama", "vocab_size": 8, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "torch_dtype": "float32", "extra": { "kept": true },
    });
    ModelConfig::from_json(Path::new("config.json"), value).unwrap()
}

fn tiny_tensors(config: &ModelConfig) -> Vec<(String, HostTensor)> {
    let values = |spec: &TensorSpec| (0..spec.num_elements()).map(|n| n as f32 - spec.name.len() as f32).collect();
    config.tensors().iter().map(|spec| (spec.name.clone(), HostTensor::new(spec.shape.clone(), values(spec)))).collect()
}

#[rstest]
#[case(u64::MAX, 1)]
// bf16 bytes: 64+32+16+16+32, then 48+48+48+8+8+8, then 64.
#[case(200, 3)]
#[case(1, 12)]
fn a_written_model_is_read_again_whatever_its_shards(#[case] max_shard_bytes: u64, #[case] num_files: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = (tiny_config(), dir.path().join("new/folder"));
    let size = |bytes| ShardSize::from_bytes(bytes).unwrap();
    // Any order will do.
    let tensors = tiny_tensors(&config);
    write_model(&out, &config, tensors.iter().rev().cloned(), StorageDtype::BF16, size(max_shard_bytes)).unwrap();
    let written = read_config(&out).unwrap();
    assert_eq!(written.dtype.as_deref(), Some("bfloat16"));
    assert_eq!(written.raw["extra"], json!({ "kept": true }));
    let weights = WeightFiles::open(&out).unwrap();
    assert_eq!(weights.paths().count(), num_files);
    assert_eq!(weights.check(&written.tensors()).unwrap().num_tensors, tensors.len());
    for (name, tensor) in &tensors {
        assert_eq!(&weights.read(name).unwrap(), tensor, "{name}");
    }
    // The same shards are replaced; others would leave a mixture.
    write_model(&out, &config, tensors.clone(), StorageDtype::BF16, size(max_shard_bytes)).unwrap();
    let other = size(if num_files == 1 { 1 } else { u64::MAX });
    let error = write_model(&out, &config, tensors, StorageDtype::BF16, other).unwrap_err();
    assert!(matches!(error, HfError::OutputTaken { .. }), "{error}");
}

#[rstest]
#[case::missing(|tensors: &mut Vec<(String, HostTensor)>| drop(tensors.remove(3)), "missing tensor \"model.layers.0.self_attn.v_proj.weight\"")]
#[case::twice(|tensors: &mut Vec<(String, HostTensor)>| tensors.push(tensors[0].clone()), "\"model.embed_tokens.weight\" was given twice")]
#[case::unexpected(|tensors: &mut Vec<(String, HostTensor)>| tensors[0].0 = "x".into(), "unexpected tensor \"x\"")]
#[case::misshapen(|tensors: &mut Vec<(String, HostTensor)>| tensors[0].1.shape = vec![4, 8], "expected shape [8, 4], found [4, 8]")]
#[case::short_data(|tensors: &mut Vec<(String, HostTensor)>| tensors[0].1.data.truncate(31), "expected shape [8, 4], found [31]")]
#[case::overflow(|tensors: &mut Vec<(String, HostTensor)>| tensors[0].1.data[5] = 1e30, "model-00001-of-00003.safetensors: tensor \"model.embed_tokens.weight\": 1000000000000000000000000000000 does not fit float16")]
#[case::infinite(|tensors: &mut Vec<(String, HostTensor)>| tensors[0].1.data[5] = f32::INFINITY, "tensor \"model.embed_tokens.weight\": value 5 would be inf: weights that are not finite are never saved")]
#[case::not_a_number_in_the_last_shard(|tensors: &mut Vec<(String, HostTensor)>| tensors[11].1.data[0] = f32::NAN, "model-00003-of-00003.safetensors: tensor \"lm_head.weight\": value 0 would be NaN")]
fn a_model_that_is_not_whole_leaves_no_file(#[case] spoil: fn(&mut Vec<(String, HostTensor)>), #[case] expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let config = tiny_config();
    let mut tensors = tiny_tensors(&config);
    spoil(&mut tensors);
    let error = write_model(dir.path(), &config, tensors, StorageDtype::F16, ShardSize::from_bytes(200).unwrap());
    let error = error.unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
