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

/// Changes a folder's `tokenizer.json`.
pub(crate) fn change_tokenizer(dir: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let path = dir.join("tokenizer.json");
    let mut tokenizer = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut tokenizer);
    std::fs::write(path, tokenizer.to_string()).unwrap();
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
#[case::map_first(json!({"eos_token": "</s>"}), &[("special_tokens_map.json", r#"{"eos_token": "<|im_end|>"}"#)], 4)]
#[case::config_with_decoder(json!({"eos_token": "</s>", "added_tokens_decoder": {}}), &[("special_tokens_map.json", r#"{"eos_token": "<|im_end|>"}"#)], 2)]
#[case::only_in_the_map(json!({"added_tokens_decoder": {}}), &[("special_tokens_map.json", r#"{"eos_token": "<|im_end|>"}"#)], 4)]
#[case::generation_list(json!({"eos_token": null}), &[("generation_config.json", r#"{"eos_token_id": [4, 2]}"#)], 4)]
#[case::model_config(json!({}), &[("config.json", r#"{"eos_token_id": 2}"#)], 2)]
fn finds_eos(#[case] config: serde_json::Value, #[case] files: &[(&str, &str)], #[case] expected: u32) {
    assert_eq!(load(&character_dir(config, files)).unwrap().eos_id(), expected);
}

#[rstest]
#[case::none(json!({}), &[], "no end-of-sequence token: expected \"eos_token\" in tokenizer_config.json")]
#[case::unknown(json!({"eos_token": "<nope>"}), &[], "tokenizer_config.json: field \"eos_token\": the token \"<nope>\" cannot end a response: it is not in the vocabulary of tokenizer.json")]
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

/// transformers 5 ignores both where there is a `tokenizer.json`.
#[rstest]
#[case::nothing_said(json!({}))]
#[case::asked_for(json!({"add_bos_token": true}))]
#[case::not_asked_for(json!({"add_bos_token": false}))]
#[case::another(json!({"add_bos_token": true, "bos_token": "<|im_start|>"}))]
#[case::without_one(json!({"add_bos_token": true, "bos_token": null}))]
#[case::an_end(json!({"add_bos_token": false, "add_eos_token": true}))]
fn a_text_begins_as_tokenizer_json_says(#[case] config: serde_json::Value, #[values(true, false)] puts_bos: bool) {
    let mut whole = json!({"eos_token": "</s>", "bos_token": "<s>"});
    whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let dir = character_dir(whole, &[]);
    if !puts_bos {
        change_tokenizer(dir.path(), |tokenizer| tokenizer["post_processor"] = json!(null));
    }
    let tokenizer = load(&dir).unwrap();
    assert_eq!(tokenizer.encode("a", true).unwrap(), if puts_bos { vec![1, id('a')] } else { vec![id('a')] });
    assert_eq!(tokenizer.encode("a", false).unwrap(), [id('a')]);
}

/// A prompt must not end in EOS, since the response follows.
#[test]
fn a_prompt_has_no_end_even_if_the_tokenizer_ends_texts() {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[]);
    change_tokenizer(dir.path(), |tokenizer| {
        let end = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
        tokenizer["post_processor"]["single"].as_array_mut().unwrap().push(end);
        tokenizer["post_processor"]["special_tokens"]["</s>"] = json!({"id": "</s>", "ids": [2], "tokens": ["</s>"]});
    });
    let tokenizer = load(&dir).unwrap();
    assert_eq!(tokenizer.encode("a", true).unwrap(), [1, id('a'), 2]);
    let start = |text| tokenizer.encode_start(text, true, Keep::All).map(|start| (start.ids, start.num_before));
    assert_eq!(start("a").unwrap(), (vec![1, id('a')], 1));
    // What the text itself brings stays.
    assert_eq!(start("a</s>").unwrap(), (vec![1, id('a'), 2], 1));
}

/// A token beyond the embedding is an error only where it is used.
#[rstest]
#[case::padding("pad_token", None)]
#[case::beginning("bos_token", None)]
#[case::unknown("unk_token", None)]
#[case::own("image_token", None)]
#[case::end(
    "eos_token",
    Some(
        "field \"eos_token\": the token \"<far>\" cannot end a response: it is not in the vocabulary of tokenizer.json, and the model has no embedding for it (vocab_size 101)"
    )
)]
fn a_named_token_may_lie_beyond_the_embedding(#[case] name: &str, #[case] problem: Option<&str>) {
    let mut config = json!({"eos_token": "</s>"});
    config[name] = json!("<far>");
    let loaded = load(&character_dir(config.clone(), &[("config.json", r#"{"vocab_size": 101}"#)]));
    match problem {
        Some(problem) => assert!(loaded.as_ref().unwrap_err().contains(problem), "{loaded:?}"),
        None => {
            let tokenizer = loaded.unwrap();
            assert_eq!((tokenizer.pad_id(), tokenizer.bos_id(), tokenizer.eos_id()), (None, None, 2));
            let ids = tokenizer.encode("a<far>", false).unwrap();
            assert_eq!((ids.clone(), tokenizer.without_embedding(&ids)), (vec![id('a'), 101], Some((101, 101))));
        }
    }
    // With a row for it, the token is like any other.
    let enough = load(&character_dir(config, &[("config.json", r#"{"text_config": {"vocab_size": 102}}"#)])).unwrap();
    assert_eq!(enough.encode("a<far>", false).unwrap(), [id('a'), 101]);
    assert_eq!(enough.eos_id(), if name == "eos_token" { 101 } else { 2 });
    assert_eq!(enough.pad_id(), (name == "pad_token").then_some(101));
}

#[rstest]
#[case::plain(r#"{"max_position_embeddings": 64}"#, Some(64))]
#[case::inner(r#"{"text_config": {"max_position_embeddings": 64}}"#, Some(64))]
#[case::stretched(r#"{"max_position_embeddings": 64, "rope_scaling": {"type": "linear", "factor": 4.0}}"#, Some(256))]
#[case::stretched_before(
    r#"{"max_position_embeddings": 64, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}"#,
    Some(64)
)]
#[case::nothing("{}", None)]
fn a_model_s_positions_are_known(#[case] config: &str, #[case] expected: Option<usize>) {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[("config.json", config)]);
    assert_eq!(load(&dir).unwrap().max_positions(), expected);
}

/// As transformers 5 writes the tokens that only one model has, such as that of an image's place.
#[rstest]
#[case("extra_special_tokens")]
#[case("model_specific_special_tokens")]
fn tokens_of_one_model_are_added_by_their_names(#[case] field: &str) {
    let config =
        json!({"eos_token": "</s>", "image_token": "<img>", field: {"note_token": "<note>", "pad_token": null}});
    let tokenizer = load(&character_dir(config, &[])).unwrap();
    let ids = tokenizer.encode("a<note>b<img>", false).unwrap();
    let mut added = [ids[1], ids[3]];
    added.sort_unstable();
    assert_eq!((ids[0], ids[2], added), (id('a'), id('b'), [101, 102]));
    assert!(tokenizer.is_special(101) && tokenizer.is_special(102));
}

#[rstest]
#[case::decoder("tokenizer_config.json", json!({"eos_token": "</s>", "added_tokens_decoder": {"x": {"content": "a"}}}), "tokenizer_config.json: field \"added_tokens_decoder.x\": expected a token id as name")]
#[case::token("tokenizer_config.json", json!({"eos_token": "</s>", "added_tokens_decoder": {"7": "a"}}), "field \"added_tokens_decoder.7\": expected an object with \"content\"")]
#[case::extra("tokenizer_config.json", json!({"eos_token": "</s>", "extra_special_tokens": 3}), "field \"extra_special_tokens\": expected a list or an object of tokens")]
#[case::specific("tokenizer_config.json", json!({"eos_token": "</s>", "model_specific_special_tokens": ["<a>"]}), "field \"model_specific_special_tokens\": expected an object of tokens")]
#[case::map("special_tokens_map.json", json!({"pad_token": 3}), "special_tokens_map.json: field \"pad_token\": expected a string or an object")]
#[case::added("added_tokens.json", json!({"<note>": "x"}), "added_tokens.json: field \"<note>\": expected a token id")]
#[case::long("tokenizer_config.json", json!({"eos_token": "</s>", "pad_token": "a".repeat(2049)}), "field \"pad_token\": a token of 2049 bytes")]
fn a_malformed_token_is_named(#[case] file: &str, #[case] content: serde_json::Value, #[case] expected: &str) {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[(file, &content.to_string())]);
    let error = load(&dir).unwrap_err();
    assert!(error.contains(expected), "{error}");
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

/// Dropout would give a text other tokens in each run, and no run could be resumed.
#[test]
fn dropout_is_turned_off_and_said() {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[]);
    let add_merge = |tokenizer: &mut serde_json::Value| {
        tokenizer["model"]["vocab"]["ab"] = json!(101);
        tokenizer["model"]["merges"] = json!([["a", "b"]]);
    };
    change_tokenizer(dir.path(), add_merge);
    let without = load(&dir).unwrap();
    assert_eq!(without.warnings(), Vec::<String>::new());
    change_tokenizer(dir.path(), |tokenizer| tokenizer["model"]["dropout"] = json!(0.5));
    let with = load(&dir).unwrap();
    let said = with.warnings().concat();
    assert!(said.starts_with("warning: "), "{said}");
    assert!(said.contains("tokenizer.json: field \"model.dropout\": 0.5 is not applied"), "{said}");
    let text = "ab".repeat(200);
    assert_eq!(with.encode(&text, false).unwrap(), without.encode(&text, false).unwrap());
    change_tokenizer(dir.path(), |tokenizer| tokenizer["model"]["dropout"] = json!(0.0));
    assert_eq!(load(&dir).unwrap().warnings(), Vec::<String>::new());
}
