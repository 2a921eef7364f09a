//! Tokenizers with byte fallback, and tokenizers that do not fit the model.

use super::*;

/// A BPE with byte fallback, single letters with ids from 256, and two added tokens.
fn fallback_tokenizer(num_bytes: usize) -> Json {
    let bytes = (0..num_bytes).map(|byte| (format!("<0x{byte:02X}>"), json!(byte)));
    let letters = [("▁", 256), ("a", 257), ("b", 258), ("ab", 259)].map(|(text, id)| (text.to_owned(), json!(id)));
    let vocab: serde_json::Map<String, Json> = bytes.chain(letters).collect();
    let added = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "special": special, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false})
    };
    json!({
        "version": "1.0",
        "added_tokens": [added(260, "</s>", true), added(261, "▁▁", false)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]], "byte_fallback": true, "fuse_unk": true},
    })
}

fn folder_with_fallback(root: &Path, num_bytes: usize) -> PathBuf {
    let mut settings = llama();
    settings["vocab_size"] = json!(264);
    settings["eos_token_id"] = json!([260, 262]);
    let dir = folder(root, settings);
    fs::write(dir.join("tokenizer.json"), fallback_tokenizer(num_bytes).to_string()).expect("a file");
    dir
}

#[test]
fn added_tokens_are_stored_with_spaces_and_other_ends_have_a_key() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = folder_with_fallback(root.path(), 256);
    let output = root.path().join("m.gguf");
    export_gguf(&dir, None, &output, &options(GgufType::F16)).expect("a file");
    let file = GgufFile::read(&output);
    let Some(Found::Texts(tokens)) = file.entries.get("tokenizer.ggml.tokens") else { panic!("no tokens") };
    let Some(Found::Kinds(kinds)) = file.entries.get("tokenizer.ggml.token_type") else { panic!("no kinds") };
    // Normal, control, user defined, unused.
    assert_eq!(
        (&tokens[256..262], &kinds[259..263]),
        (&["▁", "a", "b", "ab", "</s>", "  "].map(str::to_owned)[..], &[1, 3, 4, 5][..])
    );
    assert_eq!(file.entries.get("tokenizer.ggml.eos_token_id"), Some(&Found::Count(260)));
    assert_eq!(file.entries.get("tokenizer.ggml.eot_token_id"), Some(&Found::Count(262)));
    assert_eq!(file.entries.get("tokenizer.ggml.add_space_prefix"), Some(&Found::Flag(true)));
}

#[test]
fn a_byte_without_a_token_is_refused() {
    let root = tempfile::tempdir().expect("a folder");
    let dir = folder_with_fallback(root.path(), 255);
    let error = export_gguf(&dir, None, &root.path().join("m.gguf"), &options(GgufType::F16)).expect_err("refused");
    assert!(error.to_string().contains("\"model.vocab.<0xFF>\""), "{error}");
}

#[test]
fn ends_that_llama_cpp_knows_by_name_need_no_key() {
    let texts = ["a", "<|im_end|>", "<|endoftext|>", "<stop>", "<halt>"].map(str::to_owned).to_vec();
    let tokens = tokenizer_file::Tokens { kinds: vec![tokenizer_file::Kind::Control; texts.len()], texts };
    assert!(tokenizer::other_ends(&tokens, 2, &[2, 1]).next().is_none());
    assert_eq!(tokenizer::other_ends(&tokens, 1, &[1, 3, 2, 4]).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_tokenizer_of_a_larger_model_is_refused() {
    let root = tempfile::tempdir().expect("a folder");
    let mut settings = llama();
    settings["vocab_size"] = json!(9);
    settings["eos_token_id"] = json!(8);
    let dir = folder(root.path(), settings);
    let refusal =
        || export_gguf(&dir, None, &root.path().join("m.gguf"), &options(GgufType::F16)).expect_err("refused");
    let error = refusal().to_string();
    assert!(
        error.contains("\"</s>\" cannot end a response: the model has no embedding for it (vocab_size 9)"),
        "{error}"
    );
    fs::write(dir.join("tokenizer_config.json"), r#"{"eos_token": "i"}"#).expect("a file");
    let error = refusal().to_string();
    assert!(error.contains("expected an id below the model's vocabulary of 9, found 9"), "{error}");
}

/// The tokens of a file are those that the model was trained with, whichever file adds them.
#[test]
fn tokens_that_other_files_add_are_stored() {
    let root = tempfile::tempdir().expect("a folder");
    let mut settings = llama();
    settings["vocab_size"] = json!(14);
    let dir = folder(root.path(), settings);
    let token = |content: &str, special: bool| json!({"content": content, "special": special, "normalized": false});
    let decoder = json!({"11": token("<note>", true), "12": token("<mark>", false)});
    let config = json!({"eos_token": "</s>", "pad_token": "<pad>", "added_tokens_decoder": decoder,
                        "extra_special_tokens": ["<last>"]});
    fs::write(dir.join("tokenizer_config.json"), config.to_string()).expect("a file");
    let output = root.path().join("m.gguf");
    export_gguf(&dir, None, &output, &options(GgufType::F16)).expect("a file");
    let file = GgufFile::read(&output);
    let Some(Found::Texts(tokens)) = file.entries.get("tokenizer.ggml.tokens") else { panic!("no tokens") };
    let Some(Found::Kinds(kinds)) = file.entries.get("tokenizer.ggml.token_type") else { panic!("no kinds") };
    // Control, control, user defined, control: <pad> has the id 13, and <last> has 14.
    assert_eq!(
        (&tokens[10..], &kinds[10..]),
        (&["</s>", "<note>", "<mark>", "<pad>"].map(str::to_owned)[..], &[3, 3, 4, 3][..])
    );
    assert_eq!(file.entries.get("tokenizer.ggml.padding_token_id"), Some(&Found::Count(13)));
}
