//! The parts of `tokenizer.json` that llama.cpp needs.

use std::collections::BTreeMap;
use std::path::Path;

use collimate_hf::HfError;
use collimate_text::{ListedToken, TextTokenizer};
use serde_json::Value as Json;

/// The kind of a token, numbered as in llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// A parsed `tokenizer.json`.
pub(crate) struct File<'a> {
    pub(crate) path: &'a Path,
    pub(crate) json: &'a Json,
}

/// Text and kind of each token, by its id.
pub(crate) struct Tokens {
    pub(crate) texts: Vec<String>,
    pub(crate) kinds: Vec<Kind>,
}

impl File<'_> {
    /// The steps of the pre-tokenizer, with a sequence flattened.
    pub(crate) fn pre_tokenizer_steps(&self) -> impl Iterator<Item = &Json> {
        let pre_tokenizer = &self.json["pre_tokenizer"];
        let list = pre_tokenizer["pretokenizers"].as_array().filter(|_| pre_tokenizer["type"] == "Sequence");
        let steps = match list {
            Some(list) => list.as_slice(),
            None => std::slice::from_ref(pre_tokenizer),
        };
        steps.iter().filter(|step| !step.is_null())
    }

    /// Whether the tokenizer is a byte-level BPE; otherwise it has byte fallback, as in SentencePiece.
    pub(crate) fn is_byte_level(&self) -> Result<bool, HfError> {
        let model = &self.json["model"];
        if model["type"] != "BPE" {
            return Err(self.refused("model.type", &model["type"], "BPE is what can be written"));
        }
        for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model[field].as_str().is_some_and(|text| !text.is_empty()) {
                return Err(self.refused(&format!("model.{field}"), &model[field], "llama.cpp has none"));
            }
        }
        if self.pre_tokenizer_steps().any(|step| step["type"] == "ByteLevel") {
            return Ok(true);
        }
        match model["byte_fallback"] == true {
            true => Ok(false),
            false => {
                let remedy = "byte-level BPE, or BPE with byte_fallback, is what can be written";
                Err(self.refused("model.byte_fallback", &model["byte_fallback"], remedy))
            }
        }
    }

    /// Every token by its id; unused rows of the embedding get a placeholder.
    pub(crate) fn tokens(&self, tokenizer: &TextTokenizer, vocab_size: usize) -> Result<Tokens, HfError> {
        let mut texts: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
        let mut kinds = vec![Kind::Unused; vocab_size];
        // Ids are taken from the tokenizer: where the file's ids leave a gap, it assigns added tokens other ones.
        let mut put = |text: &str, kind: Kind| {
            let id = tokenizer.token_id(text);
            let index = id.map(|id| id as usize).filter(|id| *id < vocab_size);
            let Some(index) = index else {
                let field = format!("token {text:?}");
                return Err(self.wrong(field, format!("an id below the model's vocabulary of {vocab_size}"), id));
            };
            text.clone_into(&mut texts[index]);
            kinds[index] = kind;
            Ok(())
        };
        let model = &self.json["model"];
        let unknown = model["unk_token"].as_str();
        let fallback = model["byte_fallback"] == true;
        let kind_of = |text: &str| match text {
            _ if fallback && is_byte(text) => Kind::Byte,
            _ if fallback && unknown == Some(text) => Kind::Unknown,
            _ => Kind::Normal,
        };
        for text in model["vocab"].as_object().into_iter().flat_map(|vocab| vocab.keys()) {
            put(text, kind_of(text))?;
        }
        let mut spaced = Vec::new();
        // Those of every file that adds tokens. One without an embedding, as a padding token may be, is of no use.
        let added = tokenizer.added_tokens();
        for ListedToken { text, is_special, .. } in added.into_iter().filter(|token| (token.id as usize) < vocab_size) {
            let kind = match kind_of(text) {
                Kind::Normal if is_special => Kind::Control,
                Kind::Normal => Kind::UserDefined,
                kind => kind,
            };
            put(text, kind)?;
            // llama.cpp searches the raw text for it, before spaces become ▁.
            if fallback
                && kind == Kind::UserDefined
                && let Some(id) = tokenizer.token_id(text)
            {
                spaced.push((id as usize, text.replace('▁', " ")));
            }
        }
        spaced.into_iter().for_each(|(index, text)| texts[index] = text);
        Ok(Tokens { texts, kinds })
    }

    /// The merges as pairs of tokens; files store pairs, or texts separated by a space.
    pub(crate) fn merges(&self) -> Result<Vec<[&str; 2]>, HfError> {
        let list = self.json["model"]["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter()
            .enumerate()
            .map(|(number, merge)| {
                let pair = match merge {
                    Json::String(text) => text.split_once(' '),
                    Json::Array(pair) => match pair.as_slice() {
                        [Json::String(left), Json::String(right)] => Some((left.as_str(), right.as_str())),
                        _ => None,
                    },
                    _ => None,
                };
                let pair = pair.filter(|(left, right)| !left.contains(' ') && !right.contains(' '));
                pair.map(|(left, right)| [left, right]).ok_or_else(|| {
                    let found: String = merge.to_string().chars().take(80).collect();
                    self.wrong(format!("model.merges[{number}]"), "two tokens without spaces".to_owned(), Some(found))
                })
            })
            .collect()
    }

    pub(crate) fn refused(&self, field: &str, found: &Json, remedy: &str) -> HfError {
        HfError::Unsupported {
            path: self.path.to_owned(),
            field: field.to_owned(),
            found: found.to_string().chars().take(200).collect(),
            remedy: remedy.to_owned(),
        }
    }

    fn wrong(&self, field: String, expected: String, found: Option<impl ToString>) -> HfError {
        let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
        HfError::Field { path: self.path.to_owned(), field, expected, found }
    }
}

/// Whether a token represents one byte: `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The id of each text; the lowest if several tokens share it.
pub(crate) fn ids(tokens: &Tokens) -> BTreeMap<&str, usize> {
    tokens.texts.iter().enumerate().rev().map(|(id, text)| (text.as_str(), id)).collect()
}
