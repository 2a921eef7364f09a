//! Compares every kind of model, normalizer and decoder that `tokenizer.json` may have with Python's `tokenizers`.
//!
//! The files are small enough to check by hand; `expected.json` beside them has the ids and decoded texts of each.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use collimate_data::{Prompt, PromptGroup, Response};
use collimate_text::{TextTokenizer, TokenizeOptions, tokenize_group};
use rstest::rstest;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    cases: BTreeMap<String, Vec<Case>>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    with_special: Vec<u32>,
    decoded: String,
}

/// Path of a fixture.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers").join(name)
}

fn open(kind: &str, eos: &str) -> TextTokenizer {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture(&format!("{kind}.json")), folder.path().join("tokenizer.json")).unwrap();
    let config = serde_json::json!({"eos_token": eos}).to_string();
    fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    TextTokenizer::from_model_dir(folder.path()).unwrap()
}

#[rstest]
#[case::byte_level_pairs("byte_level", "<|end|>", 0)]
#[case::pairs_of_characters_with_bytes("byte_fallback", "</s>", 2)]
#[case::unigram("unigram", "</s>", 2)]
#[case::unigram_with_a_map_of_characters("precompiled", "</s>", 2)]
#[case::word_pieces("word_piece", "[SEP]", 3)]
#[case::words("word_level", "</s>", 1)]
fn a_kind_of_tokenizer_gives_the_reference_s_ids(#[case] kind: &str, #[case] eos: &str, #[case] eos_id: u32) {
    let text = fs::read_to_string(fixture("expected.json")).unwrap();
    let expected: Expected = serde_json::from_str(&text).unwrap();
    let (tokenizer, cases) = (open(kind, eos), &expected.cases[kind]);
    assert_eq!((tokenizer.eos_id(), cases.len()), (eos_id, 9));
    for case in cases {
        let ids = tokenizer.encode(&case.text, false).unwrap();
        assert_eq!(ids, case.ids, "{:?}", case.text);
        assert_eq!(tokenizer.encode(&case.text, true).unwrap(), case.with_special, "{:?}", case.text);
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), case.decoded, "{:?}", case.text);
        // The pieces together must be the text, without losses or repetitions; they may keep a space that a decoder
        // strips from the start of a whole text.
        let pieces = tokenizer.pieces(&ids).unwrap().concat();
        assert_eq!(pieces.trim_start(), case.decoded.trim_start(), "{:?}", case.text);
    }
}

/// Tokenizers that can represent any text reproduce it.
#[rstest]
#[case("byte_level", "<|end|>")]
#[case("byte_fallback", "</s>")]
fn any_text_comes_back(
    #[case] kind: &str,
    #[case] eos: &str,
    #[values("hello world", "tabs\tand\nlines\r\n", "größe 日本 🙂", "\u{0}\u{7f}", "trailing ")] text: &str,
) {
    let tokenizer = open(kind, eos);
    let ids = tokenizer.encode(text, false).unwrap();
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
}

#[rstest]
#[case("byte_level", "<|end|>")]
#[case("byte_fallback", "</s>")]
#[case("unigram", "</s>")]
#[case("word_piece", "[SEP]")]
#[case("word_level", "</s>")]
fn a_response_ends_with_one_end_token(#[case] kind: &str, #[case] eos: &str) {
    let tokenizer = open(kind, eos);
    let response = |content: &str| Response { content: content.to_owned(), reward: 1.0, ..Response::default() };
    let responses = vec![response("world"), response(&format!("hello {eos}"))];
    let group = PromptGroup {
        index: 0,
        line: 1,
        prompt: Prompt::Text("hello".to_owned()),
        responses,
        ..PromptGroup::default()
    };
    let group = tokenize_group(&group, &tokenizer, &TokenizeOptions::default()).unwrap();
    for response in &group.responses {
        assert_eq!(response.ids.last(), Some(&tokenizer.eos_id()));
        assert_eq!(response.ids.iter().filter(|id| **id == tokenizer.eos_id()).count(), 1, "{:?}", response.ids);
    }
}

/// How much of the surrounding whitespace an added token absorbs, and whether it counts as special.
#[test]
fn added_tokens_take_white_space_and_are_special_as_they_say() {
    let tokenizer = open("byte_level", "<|end|>");
    let ids = |text: &str| tokenizer.encode(text, false).unwrap();
    assert_eq!(ids("hello <|turn|> world"), [ids("hello"), vec![1], ids("world")].concat());
    assert_eq!(ids("a<tool>b"), [ids("a"), vec![2], ids("b")].concat());
    assert!(tokenizer.is_special(0) && tokenizer.is_special(1) && !tokenizer.is_special(2));
    assert_eq!(tokenizer.decode(&[0, 1, 2], true).unwrap(), "<tool>");
}
