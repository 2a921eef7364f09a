mod refusals;
mod tokenizers;

use std::fs;
use std::path::{Path, PathBuf};

use collimate_files::ShardSize;
use collimate_hf::{HfError, HostTensor, ModelConfig};
use collimate_oracle::gguf::{Found, GgufFile};
use collimate_peft::{Adapter, LoraConfig, LoraTargets};
use collimate_weights::{StorageDtype, write_model};
use rstest::rstest;
use serde_json::{Value as Json, json};

use crate::*;

/// The configuration of a Llama with two layers, rows of 32 and two query heads per key head.
fn llama() -> Json {
    json!({
        "model_type": "llama", "vocab_size": 12, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": false, "eos_token_id": 10,
    })
}

/// A byte-level BPE of nine letters, one merge and one special token.
fn bytes_tokenizer() -> Json {
    let letters = "abcdefghi".chars().enumerate().map(|(id, letter)| (letter.to_string(), json!(id)));
    let vocab: serde_json::Map<String, Json> = letters.chain([("ab".to_owned(), json!(9))]).collect();
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 10, "content": "</s>", "special": true, "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]]},
    })
}

/// A model folder with this configuration, whose values count up from −1 in hundredths.
fn folder(root: &Path, settings: Json) -> PathBuf {
    let config = ModelConfig::from_json(Path::new("config.json"), settings).expect("sound settings");
    let value = |place: usize| (place % 201) as f32 / 100.0 - 1.0;
    let tensors = config.tensors().into_iter().map(|spec| {
        let values = (0..spec.num_elements()).map(value).collect();
        (spec.name, HostTensor::new(spec.shape, values))
    });
    let dir = root.join("tiny");
    write_model(&dir, &config, tensors, StorageDtype::F32, ShardSize::default()).expect("a model");
    fs::write(dir.join("tokenizer.json"), bytes_tokenizer().to_string()).expect("a file");
    let special = json!({"eos_token": "</s>", "chat_template": "{{ messages }}"});
    fs::write(dir.join("tokenizer_config.json"), special.to_string()).expect("a file");
    dir
}

fn options(outtype: GgufType) -> GgufOptions {
    GgufOptions { outtype, name: None, tokenizer_pre: None }
}

fn exported(settings: Json, outtype: GgufType) -> (GgufSummary, GgufFile) {
    let root = tempfile::tempdir().expect("a folder");
    let output = root.path().join("new/model.gguf");
    let summary = export_gguf(&folder(root.path(), settings), None, &output, &options(outtype)).expect("a file");
    let file = GgufFile::read(&output);
    assert_eq!(summary.num_bytes, file.num_bytes);
    (summary, file)
}

#[test]
fn a_file_says_what_the_model_is() {
    let (summary, file) = exported(llama(), GgufType::F16);
    assert_eq!((summary.architecture, summary.num_tensors), ("llama", 21));
    assert_eq!(summary.notes, Vec::<String>::new());
    for (key, expected) in [
        ("general.architecture", Found::Text("llama".into())),
        ("general.name", Found::Text("tiny".into())),
        ("general.file_type", Found::Count(1)),
        ("general.quantization_version", Found::Count(2)),
        ("llama.block_count", Found::Count(2)),
        ("llama.context_length", Found::Count(128)),
        ("llama.embedding_length", Found::Count(32)),
        ("llama.feed_forward_length", Found::Count(64)),
        ("llama.attention.head_count", Found::Count(2)),
        ("llama.attention.head_count_kv", Found::Count(1)),
        ("llama.attention.key_length", Found::Count(16)),
        ("llama.attention.layer_norm_rms_epsilon", Found::Number(1e-5)),
        ("llama.rope.dimension_count", Found::Count(16)),
        ("llama.rope.freq_base", Found::Number(1e4)),
        ("tokenizer.ggml.model", Found::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Found::Text("gpt-2".into())),
        ("tokenizer.ggml.merges", Found::Texts(vec!["a b".into()])),
        ("tokenizer.ggml.eos_token_id", Found::Count(10)),
        ("tokenizer.ggml.add_bos_token", Found::Flag(false)),
        ("tokenizer.chat_template", Found::Text("{{ messages }}".into())),
    ] {
        assert_eq!(file.entries.get(key), Some(&expected), "{key}");
    }
    let Some(Found::Texts(tokens)) = file.entries.get("tokenizer.ggml.tokens") else { panic!("no tokens") };
    assert_eq!(
        (tokens.len(), tokens[9].as_str(), tokens[10].as_str(), tokens[11].as_str()),
        (12, "ab", "</s>", "[PAD11]")
    );
    // Normal, control, unused.
    let Some(Found::Kinds(kinds)) = file.entries.get("tokenizer.ggml.token_type") else { panic!("no kinds") };
    assert_eq!(kinds[8..], [1, 1, 3, 5]);
}

#[test]
fn tensors_are_the_models_with_queries_and_keys_in_llamas_order() {
    let (_, file) = exported(llama(), GgufType::F32);
    let value = |place: usize| (place % 201) as f32 / 100.0 - 1.0;
    let embedding = &file.tensors["token_embd.weight"];
    assert_eq!((&embedding.shape[..], embedding.kind), (&[12, 32][..], 0));
    assert!(embedding.floats().into_iter().eq((0..12 * 32).map(value)));
    // In the first head of 16 rows, row 1 was row 8, and row 2 was row 1.
    let queries = file.tensors["blk.1.attn_q.weight"].floats();
    let row = |row: usize| (0..32).map(move |column| value(row * 32 + column));
    assert!(queries[32..64].iter().copied().eq(row(8)) && queries[64..96].iter().copied().eq(row(1)));
    assert!(queries[17 * 32..18 * 32].iter().copied().eq(row(24)), "the second head begins at row 16");
    let values = file.tensors["blk.1.attn_v.weight"].floats();
    assert!(values[32..64].iter().copied().eq(row(1)));
    for name in ["output.weight", "output_norm.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_norm.weight"] {
        assert!(file.tensors.contains_key(name), "{name}");
    }
}

#[rstest]
#[case(GgufType::F16, 1, 1)]
#[case(GgufType::BF16, 30, 30)]
#[case(GgufType::Q8_0, 8, 8)]
// Embeddings keep eight bits.
#[case(GgufType::Q4_0, 2, 8)]
fn matrices_have_the_type_asked_for_and_vectors_float32(
    #[case] outtype: GgufType,
    #[case] matrix: u32,
    #[case] embedding: u32,
) {
    let (_, file) = exported(llama(), outtype);
    assert_eq!(file.tensors["blk.0.ffn_down.weight"].kind, matrix);
    assert_eq!(file.tensors["token_embd.weight"].kind, embedding);
    assert_eq!(file.tensors["output.weight"].kind, embedding);
    assert_eq!(file.tensors["blk.0.attn_norm.weight"].kind, 0);
    assert!(file.tensors.values().all(|tensor| tensor.place.is_multiple_of(32)));
}

#[test]
fn rows_that_no_blocks_fit_are_in_float16_and_noted() {
    let mut settings = llama();
    settings["intermediate_size"] = json!(48);
    let (summary, file) = exported(settings, GgufType::Q8_0);
    assert_eq!((file.tensors["blk.0.ffn_down.weight"].kind, file.tensors["blk.0.ffn_up.weight"].kind), (1, 8));
    assert_eq!(summary.notes, ["2 matrices have rows that no blocks of 32 fit: f16 instead of q8_0"]);
}

#[test]
fn an_adapter_is_in_the_weights() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = folder(root.path(), llama());
    let a = HostTensor::new([1, 32], vec![0.5; 32]);
    let b = HostTensor::new([16, 1], (0..16).map(|row| row as f32).collect());
    let modules = [("model.layers.1.self_attn.v_proj".to_owned(), (a, b))];
    let adapter = root.path().join("adapter");
    let targets = LoraTargets::Names(vec!["layers.1.self_attn.v_proj".to_owned()]);
    Adapter::of_factors(LoraConfig::new(1, 2.0, targets), modules).write(&adapter).expect("an adapter");
    let output = root.path().join("model.gguf");
    export_gguf(&dir, Some(&adapter), &output, &options(GgufType::F32)).expect("a file");
    let file = GgufFile::read(&output);
    let value = |place: usize| (place % 201) as f32 / 100.0 - 1.0;
    // Scale 2, so row r grows by 2 · 0.5 · r.
    let expected = (0..16 * 32).map(|place| value(place) + (place / 32) as f32);
    assert!(file.tensors["blk.1.attn_v.weight"].floats().into_iter().eq(expected));
    assert!(file.tensors["blk.0.attn_v.weight"].floats().into_iter().eq((0..16 * 32).map(value)));
}

#[test]
fn experts_are_stacked_and_their_router_is_in_float32() {
    let mut settings = llama();
    settings["model_type"] = json!("mixtral");
    settings["num_local_experts"] = json!(3);
    settings["num_experts_per_tok"] = json!(2);
    settings["sliding_window"] = json!(null);
    let (summary, file) = exported(settings, GgufType::F16);
    assert_eq!(summary.architecture, "llama");
    assert_eq!(file.entries.get("llama.expert_count"), Some(&Found::Count(3)));
    assert_eq!(file.entries.get("llama.expert_used_count"), Some(&Found::Count(2)));
    assert_eq!(file.tensors["blk.1.ffn_gate_inp.weight"].kind, 0);
    assert_eq!(file.tensors["blk.1.ffn_down_exps.weight"].shape, [3, 32, 64]);
    assert_eq!(file.tensors["blk.1.ffn_gate_exps.weight"].shape, [3, 64, 32]);
}

#[test]
fn gemmas_norms_are_stored_plus_one_and_its_caps_have_keys() {
    let settings = json!({
        "model_type": "gemma2", "vocab_size": 12, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16,
        "sliding_window": 24, "eos_token_id": 10,
    });
    let (summary, file) = exported(settings, GgufType::F16);
    assert_eq!(summary.notes, Vec::<String>::new());
    assert!(file.tensors["blk.0.post_ffw_norm.weight"].floats().iter().take(3).eq(&[0.0_f32, 1.0 - 0.99, 1.0 - 0.98]));
    assert!(!file.tensors.contains_key("output.weight"));
    assert_eq!(file.entries.get("gemma2.attn_logit_softcapping"), Some(&Found::Number(50.0)));
    assert_eq!(file.entries.get("gemma2.attention.sliding_window"), Some(&Found::Count(24)));
}

#[test]
fn llama_3s_scaling_is_a_tensor_of_divisors() {
    let mut settings = llama();
    settings["rope_scaling"] = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    });
    let (_, file) = exported(settings, GgufType::F16);
    let divisors = file.tensors["rope_freqs.weight"].floats();
    // Wavelengths 2π·10000^(i/8): 6.3, 19.9, 62.8, 198.7, … against 16 and 64.
    assert_eq!(divisors.len(), 8);
    assert_eq!((divisors[0], &divisors[3..]), (1.0, &[8.0; 5][..]));
    let smooth = |wavelength: f32| (64.0 / wavelength - 1.0) / 3.0;
    for (divisor, wavelength) in divisors[1..3].iter().zip([19.869_177, 62.831_853]) {
        let expected = 1.0 / ((1.0 - smooth(wavelength)) / 8.0 + smooth(wavelength));
        assert!((divisor / expected - 1.0).abs() < 1e-5, "{divisor} against {expected}");
    }
}

#[rstest]
#[case(json!({"type": "linear", "factor": 4.0}), &[("type", Found::Text("linear".into())), ("factor", Found::Number(4.0))])]
#[case(
    json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}),
    &[("type", Found::Text("yarn".into())), ("factor", Found::Number(4.0)), ("original_context_length", Found::Count(32))]
)]
fn scaled_rotation_has_its_keys(#[case] scaling: Json, #[case] expected: &[(&str, Found)]) {
    let mut settings = llama();
    settings["rope_scaling"] = scaling;
    let (_, file) = exported(settings, GgufType::F16);
    for (key, value) in expected {
        assert_eq!(file.entries.get(&format!("llama.rope.scaling.{key}")), Some(value), "{key}");
    }
}

#[test]
fn a_window_that_llama_cpp_lacks_is_noted() {
    let mut settings = llama();
    settings["model_type"] = json!("mistral");
    settings["sliding_window"] = json!(24);
    let (summary, file) = exported(settings, GgufType::F16);
    assert!(summary.notes[0].contains("no window of 24 tokens in llama"), "{:?}", summary.notes);
    assert_eq!(file.entries.get("llama.attention.sliding_window"), Some(&Found::Count(24)));
}

#[test]
fn long_factors_are_noted_with_the_context_that_brings_them() {
    let mut settings = llama();
    settings["model_type"] = json!("phi3");
    settings["original_max_position_embeddings"] = json!(64);
    settings["rope_scaling"] = json!({"type": "longrope", "short_factor": vec![1.5; 8], "long_factor": vec![2.5; 8]});
    let (summary, file) = exported(settings, GgufType::F16);
    assert!(summary.notes[0].contains("longer than 64 tokens"), "{:?}", summary.notes);
    assert_eq!(file.tensors["rope_factors_short.weight"].floats(), [1.5; 8]);
    assert_eq!(file.tensors["rope_factors_long.weight"].floats(), [2.5; 8]);
}
