mod settings;

use collimate_hf::read_json;
use collimate_weights::WeightFiles;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::config::LoraTargets;
use crate::matching::ModulePattern;

fn model() -> ModelConfig {
    let value = json!({
        "model_type": "llama", "vocab_size": 8, "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1,
    });
    ModelConfig::from_json(Path::new("config.json"), value).unwrap()
}

fn names(names: &[&str]) -> LoraTargets {
    LoraTargets::Names(names.iter().map(|name| (*name).to_owned()).collect())
}

/// An adapter of rank 2 with values that distinguish its matrices.
fn adapter(targets: LoraTargets) -> Adapter {
    let mut config = LoraConfig::new(2, 3.5, targets);
    config.dropout = 0.05;
    config.base_model_name_or_path = Some("some/base".to_owned());
    let ramp = |shape: [usize; 2], start: f32| {
        HostTensor::new(shape, (0..shape[0] * shape[1]).map(|n| start + n as f32).collect())
    };
    let modules = config.target_modules(&model()).unwrap().into_iter().enumerate().map(|(number, linear)| {
        let start = number as f32 * 0.1;
        (linear.module, (ramp([2, linear.in_features], start), ramp([linear.out_features, 2], -start)))
    });
    Adapter::of_factors(config.clone(), modules.collect::<Vec<_>>())
}

/// Writes an adapter on q_proj and v_proj after changing its settings and tensors, and reads it.
fn read_changed(change: Value, spoil: fn(&mut Vec<(String, HostTensor)>)) -> Result<Adapter, HfError> {
    let dir = tempfile::tempdir().unwrap();
    adapter(names(&["q_proj", "v_proj"])).write(dir.path()).unwrap();
    let path = dir.path().join(CONFIG_FILE);
    let mut settings = read_json(&path).unwrap();
    for (key, value) in change.as_object().unwrap() {
        settings[key] = value.clone();
    }
    fs::write(&path, settings.to_string()).unwrap();
    let path = dir.path().join(WEIGHTS_FILE);
    let weights = WeightFiles::open_file(&path).unwrap();
    let mut tensors: Vec<_> = weights.names().map(|name| (name.to_owned(), weights.read(name).unwrap())).collect();
    spoil(&mut tensors);
    write_safetensors(&path, tensors, StorageDtype::F32).unwrap();
    Adapter::read(dir.path(), &model())
}

#[rstest]
#[case(names(&["q_proj", "v_proj"]), 2 * 2)]
#[case(names(&["self_attn.o_proj", "layers.1.mlp.down_proj"]), 2 + 1)]
#[case(names(&["model.layers.0.self_attn.k_proj"]), 1)]
fn writing_and_reading_is_the_identity(#[case] targets: LoraTargets, #[case] num_modules: usize) {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(targets);
    assert_eq!(adapter.modules().len(), num_modules);
    adapter.write(dir.path()).unwrap();
    assert_eq!(Adapter::read(dir.path(), &model()).unwrap(), adapter);
}

#[test]
fn all_linear_is_written_as_names() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = adapter(LoraTargets::AllLinear);
    adapter.write(dir.path()).unwrap();
    let read = Adapter::read(dir.path(), &model()).unwrap();
    assert_eq!(read.tensors, adapter.tensors);
    let seven = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"];
    assert_eq!(read.config.targets, names(&seven));
    let per_layer = (4 + 4) + (4 + 2) + (4 + 2) + (4 + 4) + 3 * (4 + 6);
    assert_eq!(read.num_parameters(), 2 * 2 * per_layer);
}

#[test]
fn files_have_the_names_and_fields_of_peft() {
    let dir = tempfile::tempdir().unwrap();
    adapter(names(&["q_proj"])).write(dir.path()).unwrap();
    let weights = WeightFiles::open_file(&dir.path().join("adapter_model.safetensors")).unwrap();
    let expected = [
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight",
        "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight",
    ];
    assert!(weights.names().eq(expected));
    assert_eq!(weights.shape(expected[0]).unwrap(), [2, 4]);
    let settings = read_json(&dir.path().join("adapter_config.json")).unwrap();
    for (key, value) in [
        ("peft_type", json!("LORA")),
        ("r", json!(2)),
        ("lora_alpha", json!(3.5)),
        ("target_modules", json!(["q_proj"])),
        ("base_model_name_or_path", json!("some/base")),
        ("task_type", json!("CAUSAL_LM")),
    ] {
        assert_eq!(settings[key], value, "{key}");
    }
}

#[rstest]
#[case(16, 16.0, false, 1.0)]
#[case(4, 8.0, false, 8.0 / 4.0)]
#[case(16, 8.0, true, 8.0 / 4.0)]
fn the_scale(#[case] r: usize, #[case] alpha: f64, #[case] use_rslora: bool, #[case] expected: f64) {
    let config = LoraConfig { use_rslora, ..LoraConfig::new(r, alpha, LoraTargets::AllLinear) };
    assert_eq!(config.scale(), expected);
}

#[rstest]
#[case(names(&["q_proj"]), "model.layers.0.self_attn.q_proj", true)]
#[case(names(&["proj"]), "model.layers.0.self_attn.q_proj", false)]
#[case(names(&["layers.1.self_attn.q_proj"]), "model.layers.1.self_attn.q_proj", true)]
#[case(names(&["layers.1.self_attn.q_proj"]), "model.layers.11.self_attn.q_proj", false)]
#[case(names(&["model.layers.0.mlp.up_proj"]), "model.layers.0.mlp.up_proj", true)]
#[case(LoraTargets::AllLinear, "model.layers.0.mlp.up_proj", true)]
fn names_match_whole_or_after_a_dot(#[case] targets: LoraTargets, #[case] module: &str, #[case] expected: bool) {
    assert_eq!(targets.matches(module), expected);
}

#[rstest]
#[case(json!("all-linear"), LoraTargets::AllLinear)]
#[case(json!(r".*\.(q_proj|v_proj)"), LoraTargets::Pattern(ModulePattern::new(r".*\.(q_proj|v_proj)")))]
#[case(json!(["q_proj", "v_proj"]), names(&["q_proj", "v_proj"]))]
fn targets_of_every_form(#[case] targets: Value, #[case] expected: LoraTargets) {
    let settings = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": targets });
    let config = LoraConfig::from_json(Path::new("adapter_config.json"), &settings).unwrap();
    assert_eq!(config.targets, expected);
}

#[test]
fn unknown_and_empty_targets_of_a_new_adapter_are_refused() {
    let error = LoraConfig::new(2, 2.0, names(&["q_proj", "c_attn"])).target_modules(&model()).unwrap_err().to_string();
    let known = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj";
    assert_eq!(error, format!("LoRA target \"c_attn\" matches no linear module of the model; there are: {known}"));
    assert!(LoraConfig::new(2, 2.0, names(&[])).target_modules(&model()).is_err());
}

#[rstest]
#[case(json!({ "peft_type": "IA3" }), "field \"peft_type\": \"IA3\" is not supported; supported: LORA")]
#[case(json!({ "peft_type": null }), "field \"peft_type\": expected \"LORA\", found null")]
#[case(json!({ "task_type": "SEQ_CLS" }), "field \"task_type\": \"SEQ_CLS\" is not supported")]
#[case(json!({ "r": 0 }), "field \"r\": expected a whole number from 1")]
#[case(json!({ "r": null }), "field \"r\": expected the rank")]
#[case(json!({ "lora_alpha": 0 }), "field \"lora_alpha\": expected a number greater than 0, found 0")]
#[case(json!({ "lora_alpha": null }), "field \"lora_alpha\"")]
#[case(json!({ "lora_dropout": 1.0 }), "field \"lora_dropout\"")]
#[case(json!({ "bias": "all" }), "field \"bias\": \"all\" is not supported; supported: none")]
#[case(json!({ "use_dora": true }), "module \"model.layers.0.self_attn.q_proj\" has no lora_magnitude_vector")]
#[case(json!({ "use_dora": 1 }), "field \"use_dora\"")]
#[case(json!({ "rank_pattern": { "q_proj": 8 } }), "expected shape [8, 4], found [2, 4]")]
#[case(json!({ "rank_pattern": { "q_proj": 0 } }), "field \"rank_pattern\": expected an object of patterns and ranks")]
#[case(json!({ "alpha_pattern": { "q_proj": -1 } }), "field \"alpha_pattern\": expected an object of patterns and numbers")]
#[case(json!({ "alpha_pattern": { "(q_proj": 8 } }), "the pattern \"(q_proj\" is not understood")]
#[case(json!({ "modules_to_save": ["lm_head"] }), "module \"lm_head.weight\" is among the targets and has no tensors")]
#[case(json!({ "layers_to_transform": [0] }), "for it is not among the adapter's target_modules")]
#[case(json!({ "layers_to_transform": "0" }), "field \"layers_to_transform\": expected a layer's number")]
#[case(json!({ "exclude_modules": ["v_proj"] }), "for it is not among the adapter's target_modules")]
#[case(json!({ "trainable_token_indices": [1] }), "field \"trainable_token_indices\"")]
#[case(json!({ "init_lora_weights": "pissa_niter_4" }), "field \"init_lora_weights\"")]
#[case(json!({ "target_modules": [] }), "field \"target_modules\": expected \"all-linear\", a pattern or a list")]
#[case(json!({ "target_modules": null }), "field \"target_modules\"")]
#[case(json!({ "target_modules": [1] }), "field \"target_modules\": expected a list of strings")]
#[case(json!({ "target_modules": "(?!x).*q_proj" }), "for it is not among the adapter's target_modules")]
#[case(json!({ "target_modules": "q_proj" }), "for it is not among the adapter's target_modules")]
#[case(json!({ "target_modules": ["q_proj", "v_proj", "k_proj"] }), "module \"model.layers.0.self_attn.k_proj\" is among the targets and has no tensors (and 1 other missing)")]
#[case(json!({ "target_modules": ["q_proj"] }), "for it is not among the adapter's target_modules")]
#[case(json!({ "r": 4 }), "expected shape [4, 4], found [2, 4]")]
fn settings_that_are_not_those_of_this_file_are_refused(#[case] change: Value, #[case] expected: &str) {
    let error = read_changed(change, |_| ()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[rstest]
#[case(|tensors: &mut Vec<(String, HostTensor)>| drop(tensors.remove(0)), "module \"model.layers.0.self_attn.q_proj\" has no lora_A")]
#[case(|tensors: &mut Vec<(String, HostTensor)>| drop(tensors.remove(1)), "module \"model.layers.0.self_attn.q_proj\" has no lora_B")]
#[case(|tensors: &mut Vec<(String, HostTensor)>| tensors[0].0 = tensors[0].0.replace("q_proj", "q_prj"), "the nearest is \"model.layers.0.self_attn.q_proj\"")]
#[case(|tensors: &mut Vec<(String, HostTensor)>| tensors[0].0 = "base_model.model.model.norm.weight".into(), "only those of modules_to_save and resized embeddings are read")]
#[case(|tensors: &mut Vec<(String, HostTensor)>| tensors[0].0 = tensors[0].0.replace("lora_A.weight", "lora_A.default.weight"), "keys read \"base_model.model.MODULE.lora_A.weight\"")]
#[case(|tensors: &mut Vec<(String, HostTensor)>| tensors[0].0 = tensors[0].0.replace("lora_A.weight", "lora_magnitude_vector"), "has no lora_A")]
#[case(|tensors: &mut Vec<(String, HostTensor)>| tensors[0].0 = "base_model.model.model.embed_tokens.lora_magnitude_vector".into(), "DoRA of embeddings is not supported: merge the adapter with PEFT")]
#[case(|tensors: &mut Vec<(String, HostTensor)>| tensors[1].1 = HostTensor::zeros([2, 4]), "expected shape [4, 2], found [2, 4]")]
fn tensors_that_do_not_fit_the_model_are_refused(
    #[case] spoil: fn(&mut Vec<(String, HostTensor)>),
    #[case] expected: &str,
) {
    let error = read_changed(json!({}), spoil).unwrap_err().to_string();
    assert!(error.contains("adapter_model.safetensors: ") && error.contains(expected), "{error}");
}

#[test]
fn a_folder_without_the_files_of_an_adapter_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let read = || Adapter::read(dir.path(), &model()).unwrap_err();
    assert!(matches!(read(), HfError::MissingFile { path, .. } if path.ends_with(CONFIG_FILE)));
    let settings = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"] });
    fs::write(dir.path().join(CONFIG_FILE), settings.to_string()).unwrap();
    assert!(matches!(read(), HfError::MissingFile { path, .. } if path.ends_with(WEIGHTS_FILE)));
    fs::write(dir.path().join("adapter_model.bin"), "").unwrap();
    assert!(matches!(read(), HfError::PickledWeights { .. }));
}
