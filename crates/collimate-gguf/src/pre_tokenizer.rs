//! The keys of byte-level BPE: its merges, and llama.cpp's name for the split before it.
//!
//! llama.cpp has the patterns compiled in and selects one by `tokenizer.ggml.pre`. Its own converter recognizes a tokenizer
//! by a hash of its tokens for a test text; we compare the pattern in `tokenizer.json`.

use collimate_hf::HfError;
use serde_json::Value as Json;

use crate::format::{Entry, Value};
use crate::tokenizer_file::File;

/// A split's pattern, its `ignore_merges` (`None` for either), and llama.cpp's name.
const PATTERNS: [(&str, Option<bool>, &str); 5] = [
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Some(true),
        "llama-bpe",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Some(false),
        "dbrx",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        None,
        "qwen2",
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        None,
        "tekken",
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        None,
        "gpt-4o",
    ),
];

/// Most steps that an error names.
const MOST_STEPS: usize = 4;
/// Most characters of a pattern in an error.
const MOST_CHARACTERS: usize = 40;

/// The keys of a byte-level BPE, except for its tokens.
pub(crate) fn entries(file: &File<'_>, named: Option<&str>, notes: &mut Vec<String>) -> Result<Vec<Entry>, HfError> {
    let normalizer = &file.json["normalizer"];
    match normalizer["type"].as_str() {
        None => {}
        Some("NFC") => notes.push("llama.cpp does not compose characters (NFC) before it makes tokens".to_owned()),
        Some(_) => return Err(file.refused("normalizer", normalizer, "llama.cpp has none for byte-level BPE")),
    }
    let pre = match named {
        Some(named) => named.to_owned(),
        None => name(file)?.to_owned(),
    };
    let merges = file.merges()?.into_iter().map(|[left, right]| format!("{left} {right}")).collect();
    Ok(vec![
        Entry::text("tokenizer.ggml.model", "gpt2"),
        Entry::text("tokenizer.ggml.pre", &pre),
        Entry::list("tokenizer.ggml.merges", Value::Texts(merges)),
    ])
}

/// llama.cpp's name for the pre-tokenizer.
fn name(file: &File<'_>) -> Result<&'static str, HfError> {
    let all: Vec<&Json> = file.pre_tokenizer_steps().collect();
    let ignores_merges = file.json["model"]["ignore_merges"] == true;
    let prefixed = all.iter().any(|step| step["add_prefix_space"] == true);
    let found = match all.as_slice() {
        _ if prefixed => None,
        [bytes] if is_bytes(bytes, true) => Some("gpt-2"),
        [digits, bytes] if digits["type"] == "Digits" && digits["individual_digits"] == true => {
            is_bytes(bytes, true).then_some("smollm")
        }
        [split, bytes] if split["type"] == "Split" && is_bytes(bytes, false) => by_pattern(split, ignores_merges),
        _ => None,
    };
    found.ok_or_else(|| {
        let remedy =
            "llama.cpp is not known to have this split; if it has one by now, pass its name as --tokenizer-pre";
        HfError::Unsupported {
            path: file.path.to_owned(),
            field: "pre_tokenizer".to_owned(),
            found: describe(&all),
            remedy: remedy.to_owned(),
        }
    })
}

/// The steps of a pre-tokenizer in a few words: the whole can be pages of JSON.
fn describe(steps: &[&Json]) -> String {
    let step = |step: &&Json| {
        let name = step["type"].as_str().unwrap_or("a step without a type").to_owned();
        let details = [
            step["pattern"]["Regex"]
                .as_str()
                .or(step["pattern"]["String"].as_str())
                .map(|text| format!("by {}", short(text))),
            step["behavior"].as_str().map(|how| how.to_owned()),
            (step["invert"] == true).then(|| "inverted".to_owned()),
            (step["add_prefix_space"] == true).then(|| "add_prefix_space".to_owned()),
        ];
        let details: Vec<String> = details.into_iter().flatten().collect();
        if details.is_empty() { name } else { format!("{name} ({})", details.join(", ")) }
    };
    let shown: Vec<String> = steps.iter().take(MOST_STEPS).map(step).collect();
    let more = steps.len().saturating_sub(MOST_STEPS);
    match (shown.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown.join(", then "),
        (false, more) => format!("{}, and {more} more steps", shown.join(", then ")),
    }
}

/// A pattern, shortened.
fn short(pattern: &str) -> String {
    let mut shown: String = pattern.chars().take(MOST_CHARACTERS).collect();
    if shown.len() < pattern.len() {
        shown.push('…');
    }
    format!("`{shown}`")
}

fn is_bytes(step: &Json, use_regex: bool) -> bool {
    // Files without the field predate it; every ByteLevel step split then.
    step["type"] == "ByteLevel" && step["use_regex"].as_bool().unwrap_or(true) == use_regex
}

fn by_pattern(split: &Json, ignores_merges: bool) -> Option<&'static str> {
    // The patterns match everything, so isolating the matches and removing what is between them are equivalent.
    let how = (split["behavior"].as_str()?, split["invert"].as_bool().unwrap_or(false));
    let keeps = matches!(how, ("Isolated", false) | ("Removed", true));
    let pattern = split["pattern"]["Regex"].as_str().filter(|_| keeps)?;
    let fits = |(known, ignores, _): &&(&str, Option<bool>, &str)| {
        *known == pattern && ignores.is_none_or(|ignores| ignores == ignores_merges)
    };
    PATTERNS.iter().find(fits).map(|(_, _, name)| *name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn named(pre_tokenizer: Json, ignore_merges: bool) -> Result<&'static str, HfError> {
        let json = json!({"model": {"ignore_merges": ignore_merges}, "pre_tokenizer": pre_tokenizer});
        name(&File { path: Path::new("tokenizer.json"), json: &json })
    }

    fn split(pattern: &str, behavior: &str, invert: bool) -> Json {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
        ]})
    }

    #[rstest]
    #[case(json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}), false, "gpt-2")]
    #[case(json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": false}
    ]}), false, "smollm")]
    #[case(split(PATTERNS[0].0, "Isolated", false), true, "llama-bpe")]
    #[case(split(PATTERNS[0].0, "Removed", true), false, "dbrx")]
    #[case(split(PATTERNS[2].0, "Isolated", false), false, "qwen2")]
    #[case(split(PATTERNS[3].0, "Isolated", false), true, "tekken")]
    fn splits_have_llama_cpps_names(#[case] json: Json, #[case] ignore_merges: bool, #[case] expected: &str) {
        assert_eq!(named(json, ignore_merges).expect("a known split"), expected);
    }

    #[rstest]
    #[case(json!(null), "none")]
    #[case(split(r"\s+", "Isolated", false), "Split (by `\\s+`, Isolated), then ByteLevel")]
    #[case(split(&"a".repeat(60), "Removed", true), &format!("Split (by `{}…`, Removed, inverted), then ByteLevel", "a".repeat(40)))]
    #[case(json!({"type": "ByteLevel", "add_prefix_space": true}), "ByteLevel (add_prefix_space)")]
    #[case(
        json!({"type": "Sequence", "pretokenizers": (0..6).map(|_| json!({"type": "Punctuation"})).collect::<Vec<_>>()}),
        "Punctuation, then Punctuation, then Punctuation, then Punctuation, and 2 more steps"
    )]
    fn an_odd_split_is_named_in_short(#[case] json: Json, #[case] expected: &str) {
        let error = named(json, false).expect_err("unknown").to_string();
        assert!(error.contains(&format!(": {expected} ")) && error.contains("--tokenizer-pre"), "{error}");
        assert!(!error.contains(['{', '}']), "{error}");
    }

    #[rstest]
    #[case(split(r"\s+", "Isolated", false))]
    #[case(split(PATTERNS[2].0, "Removed", false))]
    #[case(json!({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true}))]
    #[case(json!(null))]
    fn a_split_that_llama_cpp_lacks_is_refused_by_name(#[case] json: Json) {
        let error = named(json, false).expect_err("unknown").to_string();
        assert!(
            error.starts_with("tokenizer.json: field \"pre_tokenizer\": ") && error.contains("--tokenizer-pre"),
            "{error}"
        );
    }
}
