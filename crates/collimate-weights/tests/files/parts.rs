//! Parameters that a file has in one tensor with others.

use std::path::Path;

use collimate_files::ShardSize;
use collimate_hf::{HfError, HostTensor, ModelConfig, TensorSpec};
use collimate_weights::{StorageDtype, WeightFiles, read_config, write_model, write_model_like};
use rstest::rstest;
use safetensors::tensor::{TensorView, serialize_to_file};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

fn config(fields: Value) -> ModelConfig {
    let mut value = json!({
        "model_type": "gpt_oss", "hidden_size": 64, "intermediate_size": 32, "num_attention_heads": 2, "head_dim": 4,
        "num_key_value_heads": 1, "num_hidden_layers": 1, "num_local_experts": 3, "num_experts_per_tok": 2,
        "vocab_size": 5,
    });
    fields.as_object().unwrap().iter().for_each(|(key, field)| value[key] = field.clone());
    ModelConfig::from_json(Path::new("config.json"), value).unwrap()
}

/// Numbers that no two tensors share, and that bfloat16 holds.
fn numbers(config: &ModelConfig) -> Vec<(String, HostTensor)> {
    let tensor = |(index, spec): (usize, TensorSpec)| {
        let data = (0..spec.num_elements()).map(|i| ((7 * index + i) % 251) as f32 - 125.0).collect();
        (spec.name, HostTensor::new(spec.shape, data))
    };
    config.tensors().into_iter().enumerate().map(tensor).collect()
}

#[rstest]
#[case(StorageDtype::F32, ShardSize::default())]
#[case(StorageDtype::BF16, ShardSize::from_bytes(20_000).unwrap())]
fn what_is_put_together_is_taken_apart(#[case] dtype: StorageDtype, #[case] shard: ShardSize) {
    let (dir, config) = (tempfile::tempdir().unwrap(), config(json!({})));
    write_model(dir.path(), &config, numbers(&config), dtype, shard).unwrap();
    let weights = WeightFiles::open(dir.path()).unwrap();
    assert_eq!(weights.check(&config.tensors()).unwrap().num_tensors, config.tensors().len());
    for (name, tensor) in numbers(&config) {
        assert_eq!(weights.read(&name).unwrap(), tensor, "{name}");
        if tensor.shape.len() == 2 {
            let (_, bytes) = weights.plain_bytes(&name).unwrap();
            assert_eq!(bytes.len(), tensor.data.len() * dtype.num_bytes(), "{name}");
            weights.check_numbers(&name).unwrap();
        }
    }
    // In the files they are together.
    let module = "model.layers.0.mlp.experts";
    let files: Vec<Vec<u8>> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    let shape = |kind: &str| {
        let name = format!("{module}.{kind}");
        let shape = |file: &Vec<u8>| Some(SafeTensors::deserialize(file).unwrap().tensor(&name).ok()?.shape().to_vec());
        files.iter().find_map(shape).unwrap_or_default()
    };
    assert_eq!((shape("gate_up_proj"), shape("down_proj_bias")), (vec![3, 64, 64], vec![3, 64]));
    if files.len() > 1 {
        let index = std::fs::read_to_string(dir.path().join("model.safetensors.index.json")).unwrap();
        assert!(index.contains(&format!("{module}.down_proj\"")) && !index.contains("experts.0."));
    }
}

/// Tensors as bytes: name, type, shape, bytes.
type Raw = (String, Dtype, Vec<usize>, Vec<u8>);

/// The tensors of a model whose experts are in MXFP4, as published.
fn packed(config: &ModelConfig) -> Vec<Raw> {
    let floats = |data: &[f32]| data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let plain = numbers(config).into_iter().filter(|(name, _)| !name.contains(".experts."));
    let mut tensors: Vec<Raw> =
        plain.map(|(name, tensor)| (name, Dtype::F32, tensor.shape, floats(&tensor.data))).collect();
    let bytes = |count: usize, start: usize| (0..count).map(|i| ((i * 37 + start) % 256) as u8).collect::<Vec<u8>>();
    for (kind, rows, blocks) in [("gate_up_proj", 64, 2), ("down_proj", 64, 1)] {
        let name = format!("model.layers.0.mlp.experts.{kind}");
        let (codes, scales) = (vec![3, rows, blocks, 16], vec![3, rows, blocks]);
        tensors.push((format!("{name}_blocks"), Dtype::U8, codes, bytes(3 * rows * blocks * 16, rows)));
        let exponents = (0..3 * rows * blocks).map(|i| (120 + i % 9) as u8).collect();
        tensors.push((format!("{name}_scales"), Dtype::U8, scales, exponents));
        let bias: Vec<f32> = (0..3 * rows).map(|i| i as f32).collect();
        tensors.push((format!("{name}_bias"), Dtype::F32, vec![3, rows], floats(&bias)));
    }
    tensors
}

fn write_raw(dir: &Path, config: &ModelConfig, tensors: &[Raw]) -> WeightFiles {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, &dir.join("model.safetensors")).unwrap();
    std::fs::write(dir.join("config.json"), config.raw.to_string()).unwrap();
    WeightFiles::open(dir).unwrap()
}

fn quantized() -> ModelConfig {
    config(
        json!({ "quantization_config": { "quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"] } }),
    )
}

#[test]
fn packed_experts_are_rows_of_codes() {
    let (dir, config) = (tempfile::tempdir().unwrap(), quantized());
    let tensors = packed(&config);
    let weights = write_raw(dir.path(), &config, &tensors);
    weights.check(&config.tensors()).unwrap();
    const TABLE: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    for (kind, linear, first, step) in
        [("gate_up_proj", "gate_proj", 0, 2), ("gate_up_proj", "up_proj", 1, 2), ("down_proj", "down_proj", 0, 1)]
    {
        let find = |ending: &str| &tensors.iter().find(|raw| raw.0.ends_with(&format!("{kind}{ending}"))).unwrap().3;
        let (codes, scales) = (find("_blocks"), find("_scales"));
        for expert in 0..3 {
            let name = format!("model.layers.0.mlp.experts.{expert}.{linear}");
            let found = weights.read(&format!("{name}.weight")).unwrap();
            let [rows, columns] = [found.shape[0], found.shape[1]];
            let number = |row: usize, column: usize| {
                let at = (expert * 64 + first + step * row) * columns + column;
                let code = codes[at / 2] >> (4 * (at % 2)) & 15;
                let size = TABLE[usize::from(code & 7)] * 2_f32.powi(i32::from(scales[at / 32]) - 127);
                if code < 8 { size } else { -size }
            };
            let expected: Vec<f32> = (0..rows * columns).map(|i| number(i / columns, i % columns)).collect();
            assert_eq!((rows, found.data), (64 / step, expected), "{name}");
            let bias = weights.read(&format!("{name}.bias")).unwrap().data;
            assert_eq!(bias[1], (expert * 64 + first + step) as f32, "{name}");
        }
    }
    let formats = |name: &str| config.packed_format(name).map(|format| format.name());
    assert_eq!(formats("model.layers.0.mlp.experts.1.up_proj.weight"), Some("mxfp4"));
    assert_eq!(formats("model.layers.0.self_attn.q_proj.weight"), None);
}

#[rstest]
#[case("gate_up_proj_scales", "MissingTensor")]
#[case("down_proj_blocks", "MissingTensor")]
#[case("down_proj_bias", "MissingTensor")]
fn a_missing_part_is_named(#[case] kind: &str, #[case] expected: &str) {
    let (dir, config) = (tempfile::tempdir().unwrap(), quantized());
    let mut tensors = packed(&config);
    tensors.retain(|raw| !raw.0.ends_with(kind));
    let weights = write_raw(dir.path(), &config, &tensors);
    let error = weights.check(&config.tensors()).unwrap_err();
    let is_expected = match expected {
        "MissingTensor" if kind.ends_with("_scales") => matches!(error, HfError::Quantized { .. }),
        _ => matches!(error, HfError::MissingTensor { .. }),
    };
    assert!(
        is_expected && error.to_string().contains(kind.trim_end_matches("_blocks").trim_end_matches("_bias")),
        "{error}"
    );
}

#[test]
fn a_tensor_of_another_shape_is_refused() {
    let (dir, config) = (tempfile::tempdir().unwrap(), config(json!({})));
    write_model(dir.path(), &config, numbers(&config), StorageDtype::F32, ShardSize::default()).unwrap();
    let wider = self::config(json!({ "intermediate_size": 34 }));
    let error = WeightFiles::open(dir.path()).unwrap().check(&wider.tensors()).unwrap_err();
    assert!(matches!(error, HfError::TensorShape { .. }), "{error}");
}

fn glm() -> ModelConfig {
    let value = json!({
        "model_type": "glm4_moe", "hidden_size": 8, "intermediate_size": 12, "moe_intermediate_size": 6,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "num_hidden_layers": 2, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "num_nextn_predict_layers": 1, "vocab_size": 5,
    });
    ModelConfig::from_json(Path::new("config.json"), value).unwrap()
}

#[test]
fn layers_that_predict_further_tokens_are_passed_over() {
    let (dir, config) = (tempfile::tempdir().unwrap(), glm());
    let floats = |data: &[f32]| data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let raw = |(name, tensor): (String, HostTensor)| (name, Dtype::F32, tensor.shape, floats(&tensor.data));
    let mut tensors: Vec<Raw> = numbers(&config).into_iter().map(raw).collect();
    tensors.push(("model.layers.2.eh_proj.weight".to_owned(), Dtype::F32, vec![1], floats(&[1.0])));
    let checked = write_raw(dir.path(), &config, &tensors).check(&config.tensors()).unwrap();
    let written = tempfile::tempdir().unwrap();
    write_model(written.path(), &config, numbers(&config), StorageDtype::F32, ShardSize::default()).unwrap();
    assert_eq!(read_config(written.path()).unwrap().raw["num_nextn_predict_layers"], json!(0));
    let note = "passed over 1 tensor of layers from 2 on, which predict further tokens";
    assert!(checked.notes.iter().any(|found| found.ends_with(note)), "{:?}", checked.notes);
}

#[test]
fn the_bias_of_picks_stays_in_float32() {
    let (dir, config) = (tempfile::tempdir().unwrap(), glm());
    let mut tensors = numbers(&config);
    let (name, bias) = tensors.iter_mut().find(|(name, _)| name.contains("correction")).unwrap();
    bias.data = vec![0.1, 0.2, 0.3, 0.4];
    let name = name.clone();
    write_model(dir.path(), &config, tensors, StorageDtype::BF16, ShardSize::default()).unwrap();
    let weights = WeightFiles::open(dir.path()).unwrap();
    assert_eq!(weights.read(&name).unwrap().data, [0.1, 0.2, 0.3, 0.4]);
    assert_eq!(weights.dtype("model.norm.weight"), Some(Dtype::BF16));
}

/// Two experts of a small Qwen 3.5, inside an image-and-text model or not.
fn qwen(is_nested: bool) -> ModelConfig {
    let text = json!({
        "model_type": "qwen3_5_moe_text", "hidden_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8,
        "num_hidden_layers": 1, "layer_types": ["full_attention"], "num_experts": 2, "num_experts_per_tok": 1,
        "moe_intermediate_size": 3, "shared_expert_intermediate_size": 5, "vocab_size": 5,
    });
    let value = if is_nested { json!({ "model_type": "qwen3_5_moe", "text_config": text }) } else { text };
    ModelConfig::from_json(Path::new("config.json"), value).unwrap()
}

/// Gates above ups, [E, 2 · inner, D], and downs, [E, D, inner], as Qwen 3.5 is published, also where a text model was taken
/// out of its folder, whose names it then keeps.
#[rstest]
fn experts_in_one_tensor_are_rows_of_it(#[values(false, true)] is_nested: bool) {
    let (dir, config) = (tempfile::tempdir().unwrap(), qwen(is_nested));
    let stored = |name: &str| match name.strip_prefix("model.") {
        Some(rest) if !is_nested => format!("model.language_model.{rest}"),
        _ => name.to_owned(),
    };
    let floats = |data: &[f32]| data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let apart = numbers(&config);
    let plain = apart.iter().filter(|(name, _)| !name.contains(".experts."));
    let mut tensors: Vec<Raw> =
        plain.map(|(name, tensor)| (stored(name), Dtype::F32, tensor.shape.clone(), floats(&tensor.data))).collect();
    let module = config.tensors().into_iter().find_map(|spec| Some(spec.name.split_once(".experts.0.")?.0.to_owned()));
    let module = format!("{}.experts", module.unwrap());
    let of = |expert: usize, linear: &str| {
        let name = format!("{module}.{expert}.{linear}.weight");
        &apart.iter().find(|(found, _)| *found == name).unwrap().1.data
    };
    let gate_up: Vec<f32> =
        (0..2).flat_map(|e| [of(e, "gate_proj").clone(), of(e, "up_proj").clone()].concat()).collect();
    let down: Vec<f32> = (0..2).flat_map(|e| of(e, "down_proj").clone()).collect();
    tensors.push((stored(&format!("{module}.gate_up_proj")), Dtype::F32, vec![2, 6, 8], floats(&gate_up)));
    tensors.push((stored(&format!("{module}.down_proj")), Dtype::F32, vec![2, 8, 3], floats(&down)));
    // A head that predicts further tokens has experts too, which are not the model's.
    if is_nested {
        tensors.push(("mtp.layers.0.mlp.experts.gate_up_proj".to_owned(), Dtype::F32, vec![2, 6, 8], floats(&gate_up)));
    }
    let weights = write_raw(dir.path(), &config, &tensors);
    weights.check(&config.tensors()).unwrap();
    for (name, tensor) in &apart {
        assert_eq!(weights.read(name).unwrap(), *tensor, "{name}");
    }
    let kept: Vec<&str> = weights.kept(&config).iter().map(|tensor| tensor.name).collect();
    assert_eq!(kept.len(), usize::from(is_nested), "{kept:?}");
    // What is written has them apart, each under its own name.
    let out = tempfile::tempdir().unwrap();
    let written = write_model_like(
        out.path(),
        &config,
        &weights,
        apart.clone().into_iter().map(Ok),
        StorageDtype::F32,
        ShardSize::default(),
    );
    written.unwrap();
    let again = WeightFiles::open(out.path()).unwrap();
    for (name, tensor) in &apart {
        assert_eq!(again.read(name).unwrap(), *tensor, "{name}");
    }
}

#[test]
fn a_matrix_that_is_there_twice_is_refused() {
    let (dir, config) = (tempfile::tempdir().unwrap(), qwen(false));
    let name = "model.layers.0.mlp.experts.0.down_proj.weight".to_owned();
    let tensors = [
        (name, Dtype::F32, vec![8, 3], vec![0; 96]),
        ("model.layers.0.mlp.experts.down_proj".to_owned(), Dtype::F32, vec![2, 8, 3], vec![0; 192]),
    ];
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    serialize_to_file(views, None, &dir.path().join("model.safetensors")).unwrap();
    std::fs::write(dir.path().join("config.json"), config.raw.to_string()).unwrap();
    let error = WeightFiles::open(dir.path()).unwrap_err();
    assert!(matches!(error, HfError::DuplicateTensor { .. }), "{error}");
}
