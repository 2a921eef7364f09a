//! How text is split before byte-level BPE, by llama.cpp's names.

use serde_json::Value as Json;

/// Patterns of splitting as tokenizers of the families have them, and llama.cpp's name of each.
const PATTERNS: [(&str, &str); 3] = [
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "llama-bpe",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen2",
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "tekken",
    ),
];

/// The parts of a sequence, or the one part that there is.
pub(super) fn parts(part: &Json) -> Vec<&Json> {
    let lists = ["pretokenizers", "normalizers", "decoders"];
    match lists.iter().find_map(|list| part[*list].as_array()) {
        Some(parts) => parts.iter().collect(),
        None if part.is_null() => Vec::new(),
        None => vec![part],
    }
}

/// llama.cpp's name of a tokenizer's splitting, where it has one.
pub(super) fn name(tokenizer: &Json) -> Option<&'static str> {
    let parts = parts(&tokenizer["pre_tokenizer"]);
    let is = |part: &Json, kind: &str| part["type"] == kind;
    let by_itself = |part: &Json| is(part, "ByteLevel") && part["use_regex"] != false;
    match parts.as_slice() {
        [only] if by_itself(only) => Some("gpt-2"),
        [digits, bytes] if is(digits, "Digits") && digits["individual_digits"] == true && by_itself(bytes) => {
            Some("smollm")
        }
        [split, bytes] if is(split, "Split") && is(bytes, "ByteLevel") && bytes["use_regex"] == false => {
            let found = split["pattern"]["Regex"].as_str()?;
            PATTERNS.iter().find(|(pattern, _)| *pattern == found).map(|(_, name)| *name)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn splittings_have_llama_cpps_names() {
        let bytes = |use_regex: bool| json!({"type": "ByteLevel", "use_regex": use_regex});
        let sequence = |parts: Json| json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": parts}});
        assert_eq!(name(&json!({"pre_tokenizer": bytes(true)})), Some("gpt-2"));
        let digits = json!({"type": "Digits", "individual_digits": true});
        assert_eq!(name(&sequence(json!([digits, bytes(true)]))), Some("smollm"));
        for (pattern, expected) in PATTERNS {
            let split = json!({"type": "Split", "pattern": {"Regex": pattern}});
            assert_eq!(name(&sequence(json!([split, bytes(false)]))), Some(expected));
            // Split once more, it is another tokenizer.
            assert_eq!(name(&sequence(json!([split, bytes(true)]))), None);
        }
        assert_eq!(name(&sequence(json!([{"type": "Split", "pattern": {"Regex": "x"}}, bytes(false)]))), None);
        assert_eq!(name(&json!({"pre_tokenizer": null})), None);
    }
}
