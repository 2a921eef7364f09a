//! Which modules the settings of an adapter stand for, and what files then hold.

use super::*;

/// An adapter whose tensors are those that its settings ask for, all of other values.
fn of_settings(settings: Value, model: &ModelConfig) -> Adapter {
    let mut all = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"] });
    for (key, value) in settings.as_object().unwrap() {
        all[key] = value.clone();
    }
    let config = LoraConfig::from_json(Path::new("adapter_config.json"), &all).unwrap();
    let mut start = 0.0;
    let tensors = config.tensors(model).into_iter().map(|spec| {
        start += 0.25;
        let len = spec.num_elements();
        (spec.name, HostTensor::new(spec.shape, (0..len).map(|n| start + n as f32 * 0.5).collect()))
    });
    Adapter { tensors: tensors.collect(), config, base: Default::default(), lacks_base_rows: false }
}

#[rstest]
#[case(json!({ "exclude_modules": ["v_proj"] }), 2)]
#[case(json!({ "exclude_modules": r".*\.0\..*" }), 2)]
#[case(json!({ "layers_to_transform": 1 }), 2)]
#[case(json!({ "layers_to_transform": [0, 1], "layers_pattern": "layers" }), 4)]
#[case(json!({ "target_modules": r"model\.layers\.1\..*\.(q_proj|up_proj)" }), 2)]
#[case(json!({ "rank_pattern": { "v_proj": 1, "layers.0.self_attn.q_proj": 3 } }), 4)]
#[case(json!({ "alpha_pattern": { "v_proj": 32 } }), 4)]
#[case(json!({ "use_dora": true }), 4)]
#[case(json!({ "target_modules": ["q_proj", "lm_head"], "use_dora": true }), 3)]
#[case(json!({ "target_modules": ["q_proj", "embed_tokens"] }), 3)]
#[case(json!({ "modules_to_save": ["lm_head", "embed_tokens"] }), 4)]
#[case(json!({ "modules_to_save": ["norm"] }), 4)]
fn every_setting_survives_writing_and_reading(#[case] settings: Value, #[case] num_modules: usize) {
    let dir = tempfile::tempdir().unwrap();
    let adapter = of_settings(settings, &model());
    adapter.write(dir.path()).unwrap();
    let read = Adapter::read(dir.path(), &model()).unwrap();
    assert_eq!(read, adapter);
    assert_eq!(read.modules().len(), num_modules);
}

#[test]
fn the_tensors_say_what_a_pattern_that_is_not_understood_changes() {
    let dir = tempfile::tempdir().unwrap();
    let adapter = of_settings(json!({ "layers_to_transform": [1] }), &model());
    adapter.write(dir.path()).unwrap();
    let path = dir.path().join(CONFIG_FILE);
    let mut settings = read_json(&path).unwrap();
    settings["target_modules"] = json!(r"model\.layers\.1\.self_attn\.[[:unknown:]");
    fs::write(&path, settings.to_string()).unwrap();
    let read = Adapter::read(dir.path(), &model()).unwrap();
    assert_eq!(read.tensors, adapter.tensors);
    assert_eq!(read.config.targets, names(&["model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"]));
}

#[rstest]
#[case("v_proj", 2, 4.0 / 2.0)]
#[case("q_proj", 4, 32.0 / 4.0)]
fn ranks_and_scales_of_modules(#[case] module: &str, #[case] r: usize, #[case] scale: f64) {
    let settings = json!({ "rank_pattern": { "q_proj": 4 }, "alpha_pattern": { r"\w\.self_attn\.q_proj": 32 } });
    let config = of_settings(settings, &model()).config;
    let module = format!("model.layers.0.self_attn.{module}");
    assert_eq!((config.rank_of(&module), config.scale_of(&module)), (r, scale));
}

#[rstest]
#[case(json!({ "exclude_modules": ["c_proj"] }), "exclude_modules: \"c_proj\" matches nothing")]
#[case(json!({ "exclude_modules": ["q_proj", "v_proj"] }), "target_modules: \"what exclude_modules")]
#[case(json!({ "layers_to_transform": [2] }), "layers_to_transform: \"2\" matches nothing")]
#[case(json!({ "rank_pattern": { "up_proj": 3 } }), "rank_pattern: \"up_proj\" matches nothing")]
#[case(json!({ "modules_to_save": ["score"] }), "modules_to_save: \"score\" matches nothing")]
#[case(json!({ "target_modules": ["embed_tokens"], "use_dora": true }), "use_dora and embed_tokens")]
fn settings_of_a_new_adapter_that_match_nothing_are_refused(#[case] settings: Value, #[case] expected: &str) {
    let error = of_settings(settings, &model()).config.target_modules(&model()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

/// Rewrites an adapter's tensors.
fn rewrite(dir: &Path, change: impl Fn(&mut Vec<(String, HostTensor)>)) {
    let path = dir.join(WEIGHTS_FILE);
    let weights = WeightFiles::open_file(&path).unwrap();
    let mut tensors: Vec<_> = weights.names().map(|name| (name.to_owned(), weights.read(name).unwrap())).collect();
    change(&mut tensors);
    write_safetensors(&path, tensors, StorageDtype::F32).unwrap();
}

#[rstest]
#[case(json!({}), &["lm_head.weight", "model.embed_tokens.weight"], false)]
#[case(json!({ "modules_to_save": ["lm_head", "embed_tokens"] }), &["lm_head.original_module.weight", "model.embed_tokens.original_module.weight"], false)]
#[case(json!({ "modules_to_save": ["lm_head", "embed_tokens"] }), &[], true)]
fn a_resized_vocabulary_is_that_of_the_embeddings_in_the_file(
    #[case] settings: Value,
    #[case] base: &[&str],
    #[case] lacks_rows: bool,
) {
    let dir = tempfile::tempdir().unwrap();
    of_settings(settings, &model().with_vocab_size(10)).write(dir.path()).unwrap();
    rewrite(dir.path(), |tensors| {
        let key = |name: &&str| (format!("base_model.model.{name}"), HostTensor::new([10, 4], vec![0.5; 40]));
        tensors.extend(base.iter().map(key));
    });
    let read = Adapter::read(dir.path(), &model()).unwrap();
    assert_eq!(read.model_config(&model()).vocab_size, 10);
    assert_eq!(read.merged_config(&model()).raw["vocab_size"], 10);
    assert_eq!((read.base.len(), read.lacks_base_rows), (2, lacks_rows));
    let again = tempfile::tempdir().unwrap();
    read.write(again.path()).unwrap();
    assert_eq!(Adapter::read(again.path(), &model()).unwrap().base, read.base);
}

#[test]
fn a_trained_head_unties_the_merged_model() {
    let tied = ModelConfig { tie_word_embeddings: true, ..model() };
    let adapter = of_settings(json!({ "target_modules": ["q_proj", "lm_head"] }), &tied);
    let merged = adapter.merged_config(&tied);
    assert!(!merged.tie_word_embeddings && merged.raw["tie_word_embeddings"] == false);
    assert!(of_settings(json!({}), &tied).merged_config(&tied).tie_word_embeddings);
}
