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
