//! Models that llama.cpp would compute differently, and outputs that must not be replaced.

use super::*;

fn refusal(settings: Json) -> String {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("model.gguf");
    let dir = folder(root.path(), settings);
    let error = export_gguf(&dir, None, &output, &options(GgufType::F16)).expect_err("refused");
    assert!(matches!(error, GgufError::Folder(HfError::Unsupported { .. })), "{error}");
    assert!(!output.exists());
    error.to_string()
}

#[rstest]
#[case(&[("hidden_act", json!("gelu"))], "\"hidden_act\": \"gelu\"")]
#[case(&[("rope_scaling", json!({"type": "dynamic", "factor": 2.0}))], "\"rope_scaling.rope_type\"")]
#[case(&[("model_type", json!("qwen3")), ("attention_bias", json!(true)), ("head_dim", json!(16))], "\"attention_bias\": true")]
#[case(&[("model_type", json!("smollm3")), ("no_rope_layers", json!([1, 0]))], "\"no_rope_layers\": [1,0]")]
#[case(
    &[("rope_scaling", json!({"type": "yarn", "factor": 4.0, "attention_factor": 2.0, "original_max_position_embeddings": 32}))],
    "\"rope_scaling.attention_factor\": 2.0"
)]
#[case(
    &[("rope_scaling", json!({"type": "yarn", "factor": 4.0, "beta_fast": 16.0, "original_max_position_embeddings": 32}))],
    "\"rope_scaling.beta_fast\": 16.0"
)]
#[case(
    &[("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "beta_slow": 2.0,
        "original_max_position_embeddings": 32}))],
    "\"rope_scaling.beta_slow\": 2.0"
)]
#[case(&[("model_type", json!("qwen2")), ("head_dim", json!(24))], "\"head_dim\": 24")]
#[case(&[("model_type", json!("phi3")), ("head_dim", json!(24))], "\"head_dim\": 24")]
#[case(&[("model_type", json!("olmo2")), ("head_dim", json!(24))], "\"head_dim\": 24")]
fn what_llama_cpp_computes_otherwise_is_refused_by_name(#[case] changes: &[(&str, Json)], #[case] expected: &str) {
    let mut settings = llama();
    changes.iter().for_each(|(key, value)| settings[*key] = value.clone());
    let error = refusal(settings);
    assert!(error.contains(expected) && error.contains("in llama.cpp's"), "{error}");
}

#[rstest]
#[case("model.safetensors", "no GGUF file")]
#[case("tokenizer.json", "no GGUF file")]
#[case("", "it is a folder")]
fn nothing_but_a_gguf_file_is_overwritten(#[case] name: &str, #[case] reason: &str) {
    let root = tempfile::tempdir().expect("a folder");
    let dir = folder(root.path(), llama());
    let output = dir.join(name);
    let before = fs::read(&output).ok();
    let error = export_gguf(&dir, None, &output, &options(GgufType::F16)).expect_err("refused");
    assert!(
        matches!(error, GgufError::Folder(HfError::OutputTaken { .. })) && error.to_string().contains(reason),
        "{error}"
    );
    assert_eq!(fs::read(&output).ok(), before);
}

/// Scale 2 and B = 1, so each weight of the module grows by 2 · `a`.
fn exported_with(a: f32, outtype: GgufType) -> (String, Vec<String>) {
    let root = tempfile::tempdir().expect("a folder");
    let dir = folder(root.path(), llama());
    let factors = (HostTensor::new([1, 32], vec![a; 32]), HostTensor::new([16, 1], vec![1.0; 16]));
    let modules = [("model.layers.1.self_attn.v_proj".to_owned(), factors)];
    let adapter = root.path().join("adapter");
    let targets = LoraTargets::Names(vec!["layers.1.self_attn.v_proj".to_owned()]);
    Adapter::of_factors(LoraConfig::new(1, 2.0, targets), modules).write(&adapter).expect("an adapter");
    let output = root.path().join("out/model.gguf");
    std::fs::create_dir(root.path().join("out")).expect("a folder");
    let error = export_gguf(&dir, Some(&adapter), &output, &options(outtype)).expect_err("refused").to_string();
    let left = std::fs::read_dir(root.path().join("out")).expect("a folder").flatten();
    (error, left.map(|entry| entry.file_name().display().to_string()).collect())
}

#[rstest]
fn a_product_that_overflows_is_never_written(
    #[values(GgufType::F32, GgufType::F16, GgufType::BF16, GgufType::Q8_0, GgufType::Q4_0)] outtype: GgufType,
) {
    let (error, left) = exported_with(3e38, outtype);
    assert!(
        error.ends_with("\"blk.1.attn_v.weight\": value 0 would be inf: weights that are not finite are never saved"),
        "{error}"
    );
    assert_eq!(left, Vec::<String>::new());
}

#[rstest]
#[case(GgufType::F16, 4e4, "does not fit f16", "store it as float32 or bfloat16")]
// The largest float32 rounds up in bfloat16.
#[case(GgufType::BF16, f32::MAX / 2.0, "does not fit bf16", "store it as float32")]
fn a_product_that_overflows_its_type_is_never_written(
    #[case] outtype: GgufType,
    #[case] a: f32,
    #[case] what: &str,
    #[case] remedy: &str,
) {
    let (error, left) = exported_with(a, outtype);
    assert!(error.contains(what) && error.ends_with(remedy), "{error}");
    assert_eq!(left, Vec::<String>::new());
}
