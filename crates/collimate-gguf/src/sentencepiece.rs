//! BPE as in SentencePiece, llama.cpp's `llama`: spaces are `▁`, and unknown characters become bytes.
//!
//! llama.cpp merges the neighbors whose joined text is the token of highest score, while `tokenizer.json` ranks pairs. A
//! token's score is therefore minus the rank of the first merge that produces it. Tokenizers converted from SentencePiece
//! list every pair that produces a token, so both rules agree.

use std::collections::{BTreeMap, BTreeSet};

use collimate_hf::HfError;
use serde_json::Value as Json;

use crate::format::{Entry, Value};
use crate::tokenizer_file::{File, Kind, Tokens, ids};

/// A space within a token.
const SPACE: &str = "▁";
/// Longer tokens are not searched for unlisted pairs, since the search takes quadratic time.
const MAX_TOKEN_BYTES: usize = 1024;
/// llama.cpp's converter gives this score to tokens that no merge involves.
const OUTSIDE: f32 = -1000.0;

/// The keys of a SentencePiece tokenizer, except for its tokens.
pub(crate) fn entries(file: &File<'_>, tokens: &Tokens, notes: &mut Vec<String>) -> Result<Vec<Entry>, HfError> {
    let prefix = prefix(file, notes)?;
    let merges = file.merges()?;
    let ids = ids(tokens);
    let missing = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")).find(|text| !ids.contains_key(text.as_str()));
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
        // Single characters, which no merge produces.
        (Kind::Normal, None) => -(merges.len() as f32),
        (Kind::Byte | Kind::Unknown, _) => 0.0,
        (Kind::Control | Kind::UserDefined, _) => OUTSIDE,
        (Kind::Unused, _) => -10_000.0,
    });
    let scores = scores.collect();
    let num_unlisted = unlisted(&merges, ranks.keys(), &ids);
    if num_unlisted > 0 {
        notes.push(format!(
            "llama.cpp may join pairs of tokens that tokenizer.json does not list ({num_unlisted} of them): rare texts can have \
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

/// Counts pairs of tokens that join to a merged token but are not listed as a merge.
fn unlisted<'a>(merges: &[[&str; 2]], made: impl Iterator<Item = &'a String>, ids: &BTreeMap<&str, usize>) -> usize {
    let listed: BTreeSet<&[&str; 2]> = merges.iter().collect();
    let made = made.filter(|token| token.len() <= MAX_TOKEN_BYTES);
    let splits = made.flat_map(|token| token.char_indices().skip(1).map(|(middle, _)| token.split_at(middle)));
    let pairs = splits.filter(|(left, right)| ids.contains_key(left) && ids.contains_key(right));
    pairs.filter(|(left, right)| !listed.contains(&[*left, *right])).count()
}

/// Where the tokenizer inserts spaces that are not in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefix {
    None,
    /// Before the text, unless it begins with a special token.
    Text,
    /// Also before each part between special tokens, unless the part already begins with a space.
    Missing,
    /// Before each part, whatever it begins with, as llama.cpp does.
    Parts,
}

/// Where spaces are inserted. Other changes to the text are refused, except for writing spaces as `▁`.
fn prefix(file: &File<'_>, notes: &mut Vec<String>) -> Result<Prefix, HfError> {
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

fn find_prefix(file: &File<'_>) -> Result<Prefix, HfError> {
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
    for step in file.pre_tokenizer_steps() {
        match step["type"].as_str() {
            Some("Metaspace") if step["replacement"] == SPACE => {
                // Metaspace inserts no second space after one from the normalizer.
                found = if found == Prefix::None { metaspace_prefix(step) } else { found };
            }
            // Splits nothing, since spaces are ▁ by now.
            Some("Split") if step["pattern"]["String"] == " " => {}
            _ => return Err(file.refused("pre_tokenizer", step, "llama.cpp splits nothing before such a BPE")),
        }
    }
    Ok(found)
}

fn metaspace_prefix(metaspace: &Json) -> Prefix {
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
    fn an_inserted_space_is_found_in_normalizer_and_pre_tokenizer(#[case] json: Json, #[case] expected: Prefix) {
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
        let ids: BTreeMap<&str, usize> = tokens.iter().enumerate().map(|(id, text)| (*text, id)).collect();
        let made = ["ab", "bc", "abc"].map(str::to_owned);
        // abc is ab with c, which is listed, and a with bc, which is not.
        assert_eq!(unlisted(&[["a", "b"], ["b", "c"], ["ab", "c"]], made.iter(), &ids), 1);
        assert_eq!(unlisted(&[["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"]], made.iter(), &ids), 0);
    }
}
