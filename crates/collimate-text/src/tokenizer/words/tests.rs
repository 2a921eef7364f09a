use std::path::Path;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::tokenizer::tests::{change_tokenizer, character_dir};

const LLAMA_3: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\
                       \\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const O200K: &str = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+\
                     (?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+\
                     [\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\
                     \\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const QUICKSTART: &str = "\\p{N}| ?\\p{L}+|[^\\p{L}\\p{N}]+";

/// The byte-level tokenizer of the fixtures with another way to divide a text.
fn byte_level(steps: serde_json::Value, normalizer: serde_json::Value) -> TextTokenizer {
    let dir = character_dir(json!({"eos_token": "<|end|>"}), &[]);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers/byte_level.json");
    std::fs::copy(fixture, dir.path().join("tokenizer.json")).unwrap();
    change_tokenizer(dir.path(), |file| {
        file["pre_tokenizer"] = steps;
        file["normalizer"] = normalizer;
    });
    TextTokenizer::from_model_dir(dir.path()).unwrap()
}

fn split(pattern: &str) -> serde_json::Value {
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})
}

fn kinds() -> Vec<TextTokenizer> {
    let gpt_2 = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let digits = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true}, gpt_2.clone()]});
    let steps = [gpt_2, digits, split(LLAMA_3), split(O200K), split(QUICKSTART)];
    let normalizers = [json!(null), json!({"type": "NFC"})];
    steps.iter().flat_map(|steps| normalizers.iter().map(|form| byte_level(steps.clone(), form.clone()))).collect()
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => prop::string::string_regex("[a-zA-Z]{1,6}").unwrap(),
        8 => Just(" ".to_owned()),
        4 => prop::string::string_regex("[ \n\r\t\u{a0}\u{3000}\u{85}]{1,4}").unwrap(),
        4 => prop::string::string_regex("[0-9]{1,5}").unwrap(),
        4 => prop::string::string_regex("[!-/:-@\\[-`{-~]{1,4}").unwrap(),
        2 => prop::string::string_regex("'(s|S|t|re|ve|m|ll|d)").unwrap(),
        2 => prop::string::string_regex("[=<>a-z \n][\u{338}\u{301}\u{345}]").unwrap(),
        2 => prop::string::string_regex("[éßД日本ÅⅣ²٣🙂\u{212a}\u{37e}\u{1fef}]{1,3}").unwrap(),
        1 => prop::string::string_regex("<\\|end\\|>|<\\|e|<tool>").unwrap(),
        1 => prop::string::string_regex("\\PC{1,4}").unwrap(),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn words_have_the_ids_of_the_whole(text in text()) {
        thread_local! {
            static KINDS: Vec<TextTokenizer> = kinds();
        }
        KINDS.with(|kinds| {
            for (number, tokenizer) in kinds.iter().enumerate() {
                for special in [false, true] {
                    let whole = framed(&tokenizer.encoding(&text, special).unwrap());
                    let Some(words) = tokenizer.by_words(&text, special, Keep::All).unwrap() else { continue };
                    prop_assert!(words.ids == whole.ids, "kind {number}: {text:?}");
                    prop_assert!((words.before, words.after) == (whole.before, whole.after));
                    let ids = &whole.ids;
                    let decoded = tokenizer.tokenizer.decode(ids, special).unwrap();
                    prop_assert_eq!(tokenizer.decode(ids, special).unwrap(), decoded);
                }
            }
            Ok(())
        })?;
    }
}

/// Ordinary text is cut into words by every kind, and most of them are in the table the second time.
#[test]
fn prose_is_cut_into_words_that_are_kept() {
    for (number, tokenizer) in kinds().into_iter().enumerate() {
        let words = tokenizer.words.as_ref().unwrap_or_else(|| panic!("kind {number} is not understood"));
        let parts: Vec<&str> = words.parts("She has 12 eggs\nand it's 3+4 more").collect();
        assert!(parts.len() >= 9, "kind {number}: {parts:?}");
        let text = "<|end|>She has eggs<|end|>".repeat(3);
        let ids = tokenizer.encode(&text, false).unwrap();
        assert_eq!(ids, tokenizer.tokenizer.encode_fast(text, false).unwrap().get_ids());
        let table = words.table();
        let mut words: Vec<&str> = table.words.keys().map(|word| &**word).collect();
        words.sort_unstable();
        // A tokenizer is tried with "a" when it is opened.
        assert_eq!(words, [" eggs", " has", "She", "a"], "kind {number}");
    }
}

/// A table that is full begins anew.
#[test]
fn a_table_is_bounded() {
    let mut table = Table::default();
    (0..MOST_WORDS + 5).for_each(|number| table.keep(&number.to_string(), &[number as u32, 7]));
    assert_eq!((table.words.len(), table.ids.len()), (5, 10));
    assert_eq!(table.words["32768"], (0, 2));
}

#[rstest]
#[case::as_it_is(json!({}), true)]
#[case::takes_space(json!({"lstrip": true}), false)]
#[case::whole_words_only(json!({"single_word": true}), false)]
#[case::after_normalization(json!({"normalized": true}), false)]
fn tokens_whose_surroundings_matter_are_left_to_the_tokenizer(
    #[case] change: serde_json::Value,
    #[case] by_words: bool,
) {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[]);
    change_tokenizer(dir.path(), |file| {
        file["pre_tokenizer"] = split("\\p{L}+|[^\\p{L}]");
        file["pre_tokenizer"]["pretokenizers"].as_array_mut().unwrap().pop();
        file["added_tokens"][3].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    });
    let tokenizer = TextTokenizer::from_model_dir(dir.path()).unwrap();
    let text = "a <|im_start|> b";
    assert_eq!(tokenizer.by_words(text, true, Keep::All).unwrap().is_some(), by_words);
    assert!(tokenizer.by_words("a b", true, Keep::All).unwrap().is_some());
    assert_eq!(tokenizer.encode(text, true).unwrap(), tokenizer.tokenizer.encode_fast(text, true).unwrap().get_ids());
}
