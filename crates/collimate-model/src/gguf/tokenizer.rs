//! The tokenizer and the chat template in llama.cpp's keys, from `tokenizer.json`.

use std::collections::BTreeMap;
use std::path::Path;

use collimate_text::TextTokenizer;
use serde_json::Value as Json;

use super::format::{Entry, Value};
use super::stripping::Stripping;
use super::{pre_tokenizer, sentencepiece};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::plain_file::read_bounded;

/// The largest `tokenizer.json`, in bytes, as the tokenizer's own reader has it.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// Ends of a turn or text that llama.cpp finds by name.
const KNOWN_ENDS: [&str; 8] =
    ["<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>"];

/// What a token is, by llama.cpp's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// A parsed `tokenizer.json`.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    pub(super) json: &'a Json,
}

/// Text and kind of each token.
pub(super) struct Tokens {
    pub(super) texts: Vec<String>,
    pub(super) kinds: Vec<Kind>,
}

/// Every key of the tokenizer, and what it does to spaces beside its special tokens.
pub(super) fn entries(
    model_dir: &Path,
    config: &ModelConfig,
    named_pre: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<(Vec<Entry>, Stripping), ModelError> {
    let tokenizer = TextTokenizer::from_model_dir(model_dir)
        .map_err(|error| ModelError::Tokenizer { message: error.to_string() })?;
    let path = model_dir.join("tokenizer.json");
    let json: Json = serde_json::from_slice(&read_bounded(&path, MAX_TOKENIZER_BYTES)?)
        .map_err(|error| ModelError::Json { path: path.clone(), message: error.to_string() })?;
    let file = File { path: &path, json: &json };
    let by_bytes = file.is_byte_level()?;
    let tokens = file.tokens(&tokenizer, config.vocab_size)?;
    let mut entries = match by_bytes {
        true => pre_tokenizer::entries(&file, named_pre, notes)?,
        false => sentencepiece::entries(&file, &tokens, notes)?,
    };
    entries.extend(special(&file, &tokenizer, &tokens, config, notes));
    entries.push(Entry::list("tokenizer.ggml.tokens", Value::Texts(tokens.texts)));
    let kinds = tokens.kinds.iter().map(|kind| *kind as i32).collect();
    entries.push(Entry::list("tokenizer.ggml.token_type", Value::Kinds(kinds)));
    entries.extend(tokenizer.chat_template().map(|chat| Entry::text("tokenizer.chat_template", chat.source())));
    Ok((entries, Stripping::of(&json)))
}

/// Ends of a text beside the tokenizer's own which llama.cpp does not know by their names.
pub(super) fn others<'a>(tokens: &'a Tokens, eos: u32, ends: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
    let known = |id: u32| tokens.texts.get(id as usize).is_some_and(|text| KNOWN_ENDS.contains(&text.as_str()));
    ends.iter().copied().filter(move |id| *id != eos && !known(*id))
}

/// Ids of special tokens, and whether a text begins and ends with one.
fn special(
    file: &File<'_>,
    tokenizer: &TextTokenizer,
    tokens: &Tokens,
    config: &ModelConfig,
    notes: &mut Vec<String>,
) -> Vec<Entry> {
    let id = |name: &str, id: u32| Entry::count(&format!("tokenizer.ggml.{name}_token_id"), id as usize);
    let (bos, eos) = (tokenizer.bos_id(), tokenizer.eos_id());
    let mut entries = Vec::new();
    entries.extend(bos.map(|bos| id("bos", bos)));
    entries.push(id("eos", eos));
    let mut ends = others(tokens, eos, &config.eos_token_ids);
    entries.extend(ends.next().map(|end| id("eot", end)));
    let untold: Vec<&str> = ends.filter_map(|end| tokens.texts.get(end as usize)).map(String::as_str).collect();
    if !untold.is_empty() {
        notes.push(format!("llama.cpp may not stop at {}: it can be told of two ends", untold.join(", ")));
    }
    let unknown = file.json["model"]["unk_token"].as_str().and_then(|text| tokenizer.token_id(text));
    entries.extend(unknown.map(|unknown| id("unknown", unknown)));
    entries.extend(tokenizer.pad_id().map(|pad| id("padding", pad)));
    let around = tokenizer.encode("a", true).unwrap_or_default();
    entries.push(Entry::flag("tokenizer.ggml.add_bos_token", bos.is_some() && around.first().copied() == bos));
    entries.push(Entry::flag("tokenizer.ggml.add_eos_token", around.last() == Some(&eos)));
    entries
}

impl File<'_> {
    /// Whether the tokenizer is a byte-level BPE; otherwise it is one that falls back on bytes, as SentencePiece's.
    fn is_byte_level(&self) -> Result<bool, ModelError> {
        let model = &self.json["model"];
        if model["type"] != "BPE" {
            return Err(self.refused("model.type", &model["type"], "BPE is what can be written"));
        }
        for field in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model[field].as_str().is_some_and(|text| !text.is_empty()) {
                return Err(self.refused(&format!("model.{field}"), &model[field], "llama.cpp has none"));
            }
        }
        if pre_tokenizer::steps(&self.json["pre_tokenizer"]).any(|step| step["type"] == "ByteLevel") {
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

    /// Every token by its id; rows of the embedding without one are unused.
    fn tokens(&self, tokenizer: &TextTokenizer, vocab_size: usize) -> Result<Tokens, ModelError> {
        let mut texts: Vec<String> = (0..vocab_size).map(|id| format!("[PAD{id}]")).collect();
        let mut kinds = vec![Kind::Unused; vocab_size];
        // By the tokenizer itself: it gives added tokens other ids than the file where those leave a gap.
        let mut put = |text: &str, kind: Kind| {
            let id = tokenizer.token_id(text);
            let place = id.map(|id| id as usize).filter(|id| *id < vocab_size);
            let Some(place) = place else {
                let field = format!("token {text:?}");
                return Err(self.wrong(field, format!("an id below the model's vocabulary of {vocab_size}"), id));
            };
            text.clone_into(&mut texts[place]);
            kinds[place] = kind;
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
        for token in self.json["added_tokens"].as_array().into_iter().flatten() {
            let text = token["content"].as_str().unwrap_or_default();
            let kind = match kind_of(text) {
                Kind::Normal if token["special"] == true => Kind::Control,
                Kind::Normal => Kind::UserDefined,
                kind => kind,
            };
            put(text, kind)?;
            // It is looked for in the text as it comes, where spaces are not yet written otherwise.
            if fallback
                && kind == Kind::UserDefined
                && let Some(id) = tokenizer.token_id(text)
            {
                spaced.push((id as usize, text.replace('▁', " ")));
            }
        }
        spaced.into_iter().for_each(|(place, text)| texts[place] = text);
        Ok(Tokens { texts, kinds })
    }

    /// The merges, each as its two parts; files have them as pairs or as texts with a space.
    pub(super) fn merges(&self) -> Result<Vec<[&str; 2]>, ModelError> {
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

    pub(super) fn refused(&self, field: &str, found: &Json, remedy: &str) -> ModelError {
        ModelError::Unsupported {
            path: self.path.to_owned(),
            field: field.to_owned(),
            found: found.to_string().chars().take(200).collect(),
            remedy: remedy.to_owned(),
        }
    }

    fn wrong(&self, field: String, expected: String, found: Option<impl ToString>) -> ModelError {
        let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
        ModelError::Field { path: self.path.to_owned(), field, expected, found }
    }
}

/// `<0x0A>`: a token that stands for one byte.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The place of each text, the first of equals.
pub(super) fn places(tokens: &Tokens) -> BTreeMap<&str, usize> {
    tokens.texts.iter().enumerate().rev().map(|(place, text)| (text.as_str(), place)).collect()
}
