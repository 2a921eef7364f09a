use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A tokenizer with one token per character, a BOS that it adds and two end tokens.
pub(crate) fn write_character_tokenizer(dir: &Path) {
    let special = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"];
    let characters = (' '..='~').chain(['\n']).map(String::from);
    let vocab: serde_json::Map<String, serde_json::Value> = special
        .iter()
        .map(|text| text.to_string())
        .chain(characters)
        .enumerate()
        .map(|(id, t)| (t, json!(id)))
        .collect();
    let added: Vec<_> = special
        .iter()
        .enumerate()
        .map(|(id, text)| {
            json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "added_tokens": added, "normalizer": null, "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": []}
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

/// The character tokenizer with a `tokenizer_config.json` and further files.
pub(crate) fn character_dir(config: serde_json::Value, files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_character_tokenizer(dir.path());
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// The id of a character in the character tokenizer.
pub(crate) fn id(c: char) -> u32 {
    if c == '\n' { 100 } else { 5 + u32::from(c) - u32::from(' ') }
}

fn load(dir: &TempDir) -> Result<TextTokenizer, String> {
    TextTokenizer::from_model_dir(dir.path()).map_err(|error| error.to_string())
}

#[test]
fn encodes_with_and_without_special_tokens_and_ignores_stored_truncation() {
    let tokenizer = load(&character_dir(json!({"eos_token": "</s>"}), &[])).unwrap();
    assert_eq!(tokenizer.encode("a b\nc", true).unwrap(), [1, id('a'), id(' '), id('b'), id('\n'), id('c')]);
    assert_eq!(tokenizer.encode("a</s>", false).unwrap(), [id('a'), 2]);
    assert_eq!(tokenizer.decode(&[1, id('a'), 2], false).unwrap(), "<s>a</s>");
    assert_eq!(tokenizer.decode(&[1, id('a'), 2], true).unwrap(), "a");
    assert_eq!(tokenizer.vocab_size(), 5 + 95 + 1);
    assert_eq!(tokenizer.token_text(id('q')).as_deref(), Some("q"));
    assert_eq!(tokenizer.token_text(999), None);
}

#[rstest]
#[case::text(json!({"eos_token": "</s>"}), &[], 2)]
#[case::object(json!({"eos_token": {"content": "<|im_end|>", "special": true}}), &[], 4)]
#[case::map(json!({}), &[("special_tokens_map.json", r#"{"eos_token": "<|im_end|>"}"#)], 4)]
#[case::config_first(json!({"eos_token": "</s>"}), &[("special_tokens_map.json", r#"{"eos_token": "<|im_end|>"}"#)], 2)]
#[case::generation_list(json!({"eos_token": null}), &[("generation_config.json", r#"{"eos_token_id": [4, 2]}"#)], 4)]
#[case::model_config(json!({}), &[("config.json", r#"{"eos_token_id": 2}"#)], 2)]
fn finds_eos(#[case] config: serde_json::Value, #[case] files: &[(&str, &str)], #[case] expected: u32) {
    assert_eq!(load(&character_dir(config, files)).unwrap().eos_id(), expected);
}

#[rstest]
#[case::none(json!({}), &[], "no end-of-sequence token: expected \"eos_token\" in tokenizer_config.json")]
#[case::unknown(json!({"eos_token": "<nope>"}), &[], "tokenizer_config.json: field \"eos_token\": the token \"<nope>\" is not in the vocabulary")]
#[case::beyond(json!({}), &[("config.json", r#"{"eos_token_id": 5000}"#)], "config.json: field \"eos_token_id\": expected a token id of tokenizer.json, found 5000")]
#[case::kind(json!({}), &[("config.json", r#"{"eos_token_id": "x"}"#)], "expected a token id of tokenizer.json, found \"x\"")]
#[case::broken(json!({}), &[("tokenizer.json", "{}")], "tokenizer.json: not a readable tokenizer")]
fn names_the_file_and_field(#[case] config: serde_json::Value, #[case] files: &[(&str, &str)], #[case] expected: &str) {
    let error = load(&character_dir(config, files)).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_folder_without_a_tokenizer_is_named() {
    let error = load(&tempfile::tempdir().unwrap()).unwrap_err();
    assert!(error.contains("tokenizer.json: no such file"), "{error}");
}

#[rstest]
#[case::as_the_tokenizer_says(json!({}), &[1])]
#[case::asked_for(json!({"add_bos_token": true}), &[1])]
#[case::not_asked_for(json!({"add_bos_token": false}), &[])]
#[case::another(json!({"add_bos_token": true, "bos_token": "<|im_start|>"}), &[3])]
#[case::without_one(json!({"add_bos_token": true, "bos_token": null}), &[])]
// A prompt must not end in EOS, since the response follows.
#[case::no_end(json!({"add_bos_token": true, "add_eos_token": true}), &[1])]
#[case::not_said(json!({"add_bos_token": null, "add_eos_token": true}), &[1])]
fn a_text_begins_as_the_folder_says(#[case] config: serde_json::Value, #[case] expected: &[u32]) {
    let mut whole = json!({"eos_token": "</s>", "bos_token": "<s>"});
    whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let tokenizer = load(&character_dir(whole, &[])).unwrap();
    assert_eq!(tokenizer.encode("a", true).unwrap(), [expected, &[id('a')]].concat());
    assert_eq!(tokenizer.encode("a", false).unwrap(), [id('a')]);
}

#[rstest]
#[case::file("file", &[("chat_template.jinja", "file"), ("chat_template.json", r#"{"chat_template": "old"}"#)])]
#[case::config("config", &[("chat_template.json", r#"{"chat_template": "old"}"#)])]
fn a_template_comes_from_the_first_file_that_has_one(#[case] expected: &str, #[case] files: &[(&str, &str)]) {
    let tokenizer = load(&character_dir(json!({"eos_token": "</s>", "chat_template": "config"}), files)).unwrap();
    assert_eq!(tokenizer.chat_template().unwrap().source(), expected);
}

#[test]
fn a_template_of_an_old_processor_is_taken_and_additional_ones_are_not() {
    let old = [("chat_template.json", r#"{"chat_template": "old"}"#)];
    let tokenizer = load(&character_dir(json!({"eos_token": "</s>"}), &old)).unwrap();
    assert_eq!(tokenizer.chat_template().unwrap().source(), "old");
    let dir = character_dir(json!({"eos_token": "</s>"}), &[]);
    std::fs::create_dir(dir.path().join("additional_chat_templates")).unwrap();
    std::fs::write(dir.path().join("additional_chat_templates/tool_use.jinja"), "tools").unwrap();
    assert!(load(&dir).unwrap().chat_template().is_none());
}

#[test]
fn is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<TextTokenizer>();
}
