use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::tokenizer::tests::{change_tokenizer, character_dir};

/// Small pieces, so that a text has many places where they meet.
const SMALL: Division = Division { piece: 2048, shared: 256 };

/// Every tokenizer of the tests: file and EOS.
pub(crate) fn kinds() -> Vec<(PathBuf, &'static str)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers");
    let named = [
        ("byte_level", "<|end|>"),
        ("byte_fallback", "</s>"),
        ("unigram", "</s>"),
        ("precompiled", "</s>"),
        ("word_piece", "[SEP]"),
        ("word_level", "</s>"),
    ];
    let own = named.map(|(name, eos)| (own.join(format!("{name}.json")), eos));
    let golden = ["bytelevel", "metaspace"].map(|name| (golden.join(format!("{name}.json")), ""));
    own.into_iter().chain(golden).collect()
}

pub(crate) fn open(path: &Path, eos: &str) -> TextTokenizer {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let first = || file["added_tokens"][0]["content"].as_str().unwrap().to_owned();
    let eos = if eos.is_empty() { first() } else { eos.to_owned() };
    std::fs::write(folder.path().join("tokenizer.json"), text).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), json!({"eos_token": eos}).to_string()).unwrap();
    TextTokenizer::from_model_dir(folder.path()).unwrap()
}

/// Ids of a text in pieces and at once; `None` if it is not divided.
fn both(tokenizer: &TextTokenizer, text: &str, division: Division) -> Option<(Vec<u32>, Vec<u32>)> {
    let join = |framed: Framed| [framed.before, framed.ids, framed.after].concat();
    let pieces = tokenizer.in_pieces(text, true, division, Keep::All).unwrap()?;
    Some((join(pieces), join(framed(&tokenizer.encoding(text, true).unwrap()))))
}

/// Texts that are awkward to divide.
fn part() -> impl Strategy<Value = String> {
    let words = "hello|world|größe|日本語|🙂|x1y2|don't|HELLO|e\u{301}|a|<tool>|<\\|turn\\|>|</s>|<s>|\\[MASK\\]";
    prop_oneof![
        50 => prop::string::string_regex(words).unwrap(),
        25 => prop::string::string_regex("[a-zA-Z]{1,12}").unwrap(),
        25 => Just(" ".to_owned()),
        12 => prop::string::string_regex("[0-9]{1,9}").unwrap(),
        12 => prop::string::string_regex("[ \n\t\r]{1,40}").unwrap(),
        12 => prop::string::string_regex("[!-/]{1,9}").unwrap(),
        1 => prop::string::string_regex("(ab){20,300}").unwrap(),
        1 => prop::string::string_regex("[0-9]{100,700}").unwrap(),
        1 => prop::string::string_regex("[ \n]{100,700}").unwrap(),
        2 => prop::string::string_regex("\\PC{1,20}").unwrap(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn pieces_have_the_ids_of_the_whole(parts in prop::collection::vec(part(), 600..1800)) {
        thread_local! {
            static KINDS: Vec<TextTokenizer> = kinds().iter().map(|(path, eos)| open(path, eos)).collect();
        }
        let text = parts.concat();
        prop_assume!(text.len() > SMALL.piece);
        KINDS.with(|kinds| {
            for (number, tokenizer) in kinds.iter().enumerate() {
                if let Some((pieces, whole)) = both(tokenizer, &text, SMALL) {
                    prop_assert!(pieces == whole, "kind {number}: {text:?}");
                }
            }
            Ok(())
        })?;
    }
}

/// Ordinary texts are divided by every kind of tokenizer, with the sizes that are used.
#[test]
fn prose_is_divided_by_every_kind() {
    let sentence = |i: usize| format!("Hello world, this is number {i}: don't say größe or 日本語!\n");
    let text: String = (0..4000).map(sentence).collect();
    assert!(text.len() > 3 * PIECE_BYTES);
    for (path, eos) in kinds() {
        let tokenizer = open(&path, eos);
        let (pieces, whole) = both(&tokenizer, &text, DIVISION).unwrap_or_else(|| panic!("{}", path.display()));
        assert!(pieces == whole, "{}", path.display());
        assert_eq!(tokenizer.encode(&text, true).unwrap(), whole);
        let decoded = |ids: &[u32]| tokenizer.decode_at_once(ids, true).unwrap();
        assert!(tokenizer.decode(&whole, true).unwrap() == decoded(&whole), "{}", path.display());
    }
}

/// Digits are counted from the start of their number, whichever piece that is in.
#[rstest]
#[case::words_of_three("\\p{N}{1,3}| ?\\p{L}+|\\s+", &"1234567".repeat(3000))]
#[case::one_long_word("\\p{N}{1,3}| ?\\p{L}+|\\s+", &"ab".repeat(9000))]
#[case::lines("\\s*[\\r\\n]+|\\s+(?!\\S)| ?[^\\s]+", &"word \n  word\n".repeat(900))]
fn patterns_see_the_same_words(#[case] pattern: &str, #[case] text: &str) {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[]);
    change_tokenizer(dir.path(), |tokenizer| {
        let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        tokenizer["pre_tokenizer"] = split;
        for (number, merge) in [["1", "2"], ["a", "b"], ["ab", "ab"], ["2", "3"], ["12", "3"]].iter().enumerate() {
            tokenizer["model"]["vocab"][merge.concat()] = json!(101 + number);
        }
        tokenizer["model"]["merges"] = json!([["1", "2"], ["a", "b"], ["ab", "ab"], ["2", "3"], ["12", "3"]]);
    });
    let tokenizer = TextTokenizer::from_model_dir(dir.path()).unwrap();
    let (pieces, whole) = both(&tokenizer, text, SMALL).unwrap();
    assert!(pieces == whole);
}

/// Where white space ends decides about all of it, so it is not divided.
#[test]
fn a_text_without_a_place_is_refused_beyond_what_is_encoded_at_once() {
    let dir = character_dir(json!({"eos_token": "</s>"}), &[]);
    let tokenizer = TextTokenizer::from_model_dir(dir.path()).unwrap();
    let spaces = |count: usize| tokenizer.encode(&" ".repeat(count), false).map(|ids| ids.len());
    assert_eq!(spaces(PIECE_BYTES + 1).unwrap(), PIECE_BYTES + 1);
    let error = spaces(MOST_WHOLE_BYTES + 1).unwrap_err().to_string();
    assert!(error.contains("a text of 1048577 bytes cannot be divided"), "{error}");
    assert!(error.contains("at most 1048576 bytes are encoded at once; from 1 to 16 GiB of memory_budget"), "{error}");
    // Twice the memory, twice the text.
    let tokenizer = tokenizer.with_memory(2 << 30);
    let spaces = |count: usize| tokenizer.encode(&" ".repeat(count), false).map(|ids| ids.len());
    assert_eq!(spaces(MOST_WHOLE_BYTES + 1).unwrap(), MOST_WHOLE_BYTES + 1);
    assert!(spaces(2 * MOST_WHOLE_BYTES + 1).is_err());
}
