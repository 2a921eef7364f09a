//! BPE with spaces as `▁` and bytes to fall back on, as SentencePiece makes it: llama.cpp's `llama`.
//!
//! llama.cpp merges the neighbours whose joined text is the token of highest score; `tokenizer.json` has pairs in their
//! order. A token's score is therefore minus the place of the first merge that makes it. Tokenizers that were converted
//! from SentencePiece list every pair that makes a token, and are the same by both rules.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::format::{Entry, Value};
use super::pre_tokenizer::steps;
use super::tokenizer::{File, Kind, Tokens, places};
use crate::error::ModelError;

/// How a space is written in tokens.
const SPACE: &str = "▁";
/// The longest token that is looked at for other pairs that make it.
const MAX_TOKEN_BYTES: usize = 1024;
/// The score of what no merge makes, as llama.cpp's converter has it for tokens that stand outside of merging.
const OUTSIDE: f32 = -1000.0;

/// The keys of such a tokenizer beside its tokens.
pub(super) fn entries(file: &File<'_>, tokens: &Tokens, notes: &mut Vec<String>) -> Result<Vec<Entry>, ModelError> {
    let prefix = prefix(file, notes)?;
    let merges = file.merges()?;
    let places = places(tokens);
    let missing = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")).find(|text| !places.contains_key(text.as_str()));
    if let Some(missing) = missing {
        let remedy = "llama.cpp writes an unknown character as its bytes, each of which must be a token";
        return Err(file.refused(&format!("model.vocab.{missing}"), &Json::Null, remedy));
    }
    let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
    for (rank, [left, right]) in merges.iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    let scores = tokens.texts.iter().zip(&tokens.kinds).map(|(text, kind)| match (kind, ranks.get(text)) {
        (Kind::Normal, Some(rank)) => -(*rank as f32),
        // Single characters: they are never the outcome of a merge.
        (Kind::Normal, None) => -(merges.len() as f32),
        (Kind::Byte | Kind::Unknown, _) => 0.0,
        (Kind::Control | Kind::UserDefined, _) => OUTSIDE,
        (Kind::Unused, _) => -10_000.0,
    });
    let scores = scores.collect();
    let num_unlisted = unlisted(&merges, ranks.keys(), &places);
    if num_unlisted > 0 {
        notes.push(format!(
            "llama.cpp may join {num_unlisted} pairs of tokens that tokenizer.json does not list: rare texts can have \
             other tokens there"
        ));
    }
    Ok(vec![
        Entry::text("tokenizer.ggml.model", "llama"),
        Entry::text("tokenizer.ggml.pre", "default"),
        Entry::list("tokenizer.ggml.scores", Value::Numbers(scores)),
        Entry::flag("tokenizer.ggml.add_space_prefix", prefix != Prefix::None),
    ])
}

/// Pairs of tokens that make a merged token and are no merge themselves.
fn unlisted<'a>(merges: &[[&str; 2]], made: impl Iterator<Item = &'a String>, places: &BTreeMap<&str, usize>) -> usize {
    let listed: BTreeSet<&[&str; 2]> = merges.iter().collect();
    // The time grows with the square of a token's length, and no real one is so long.
    let made = made.filter(|token| token.len() <= MAX_TOKEN_BYTES);
    let splits = made.flat_map(|token| token.char_indices().skip(1).map(|(middle, _)| token.split_at(middle)));
    let pairs = splits.filter(|(left, right)| places.contains_key(left) && places.contains_key(right));
    pairs.filter(|(left, right)| !listed.contains(&[*left, *right])).count()
}

/// Where spaces are put that a text has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    None,
    /// Before the text's first word, unless it begins with a special token.
    Text,
    /// Before what is between special tokens too, unless it begins with one.
    Missing,
    /// The same, whatever it begins with, as llama.cpp does.
    Parts,
}

/// Where a space is put before; what else is done to texts must be spaces written as `▁`.
fn prefix(file: &File<'_>, notes: &mut Vec<String>) -> Result<Prefix, ModelError> {
    let found = find_prefix(file)?;
    let note = match found {
        Prefix::None | Prefix::Parts => return Ok(found),
        Prefix::Missing => "and before one that begins with a space, where this tokenizer puts none",
        Prefix::Text => {
            "and after every special token, this tokenizer before a text's first word only, if it has none: prompts with \
             special tokens in the middle have other tokens there"
        }
    };
    notes.push(format!("llama.cpp puts a space before a text {note}"));
    Ok(found)
}

fn find_prefix(file: &File<'_>) -> Result<Prefix, ModelError> {
    let mut found = Prefix::None;
    let normalizer = &file.json["normalizer"];
    let list = normalizer["normalizers"].as_array().map(Vec::as_slice);
    for step in list.unwrap_or(std::slice::from_ref(normalizer)).iter().filter(|step| !step.is_null()) {
        match step["type"].as_str() {
            Some("Prepend") if step["prepend"] == SPACE => found = Prefix::Parts,
            Some("Replace") if step["pattern"]["String"] == " " && step["content"] == SPACE => {}
            _ => return Err(file.refused("normalizer", step, "llama.cpp only writes spaces as ▁")),
        }
    }
    for step in steps(&file.json["pre_tokenizer"]) {
        match step["type"].as_str() {
            Some("Metaspace") if step["replacement"] == SPACE => {
                // A normalizer has put its space there already, and no second one is put beside it.
                found = if found == Prefix::None { of_metaspace(step) } else { found };
            }
            // What is split at spaces, once those are written as ▁, is not split.
            Some("Split") if step["pattern"]["String"] == " " => {}
            _ => return Err(file.refused("pre_tokenizer", step, "llama.cpp splits nothing before such a BPE")),
        }
    }
    Ok(found)
}

fn of_metaspace(metaspace: &Json) -> Prefix {
    match metaspace["prepend_scheme"].as_str() {
        Some("never") => Prefix::None,
        Some("first") => Prefix::Text,
        Some(_) => Prefix::Missing,
        None if metaspace["add_prefix_space"].as_bool().unwrap_or(true) => Prefix::Missing,
        None => Prefix::None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}}), Prefix::Text)]
    #[case(json!({"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}}), Prefix::Missing)]
    #[case(json!({"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "add_prefix_space": true}}), Prefix::Missing)]
    #[case(json!({"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}}), Prefix::None)]
    #[case(json!({"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ]}}), Prefix::Parts)]
    #[case(json!({
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"},
    }), Prefix::None)]
    fn a_space_before_the_text_is_found_wherever_it_is_said(#[case] json: Json, #[case] expected: Prefix) {
        let (file, mut notes) = (File { path: Path::new("tokenizer.json"), json: &json }, Vec::new());
        assert_eq!(prefix(&file, &mut notes).expect("supported"), expected);
        assert_eq!(notes.len(), usize::from(matches!(expected, Prefix::Text | Prefix::Missing)));
    }

    #[rstest]
    #[case(json!({"normalizer": {"type": "NFKC"}}), "normalizer")]
    #[case(json!({"pre_tokenizer": {"type": "Whitespace"}}), "pre_tokenizer")]
    fn other_changes_of_the_text_are_refused(#[case] json: Json, #[case] field: &str) {
        let error = find_prefix(&File { path: Path::new("t"), json: &json }).expect_err("refused").to_string();
        assert!(error.starts_with(&format!("t: field \"{field}\": ")), "{error}");
    }

    #[test]
    fn pairs_that_no_merge_lists_are_counted() {
        let tokens = ["a", "b", "c", "ab", "bc", "abc"];
        let places: BTreeMap<&str, usize> = tokens.iter().enumerate().map(|(place, text)| (*text, place)).collect();
        let made = ["ab", "bc", "abc"].map(str::to_owned);
        // abc is ab with c, which is listed, and a with bc, which is not.
        assert_eq!(unlisted(&[["a", "b"], ["b", "c"], ["ab", "c"]], made.iter(), &places), 1);
        assert_eq!(unlisted(&[["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"]], made.iter(), &places), 0);
    }
}
