//! A folder's tokenizer as llama.cpp's keys: byte-level BPE, and BPE in the manner of SentencePiece.

use std::path::Path;

use collimate_data::TextTokenizer;
use serde_json::Value as Json;

use super::format::{Entry, Value};
use super::pre_tokenizer;
use crate::config::{ModelConfig, read_json};
use crate::error::ModelError;

/// llama.cpp's kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// What `tokenizer.json` says, as far as it is needed.
struct Source<'a> {
    path: &'a Path,
    json: &'a Json,
}

/// Every key of the tokenizer and its chat template.
///
/// # Errors
/// [`ModelError`]: the folder has no tokenizer that can be read; [`ModelError::Unsupported`] where llama.cpp has no
/// tokenizer of its kind.
pub(super) fn entries(
    dir: &Path,
    config: &ModelConfig,
    pre: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<Vec<Entry>, ModelError> {
    let path = dir.join("tokenizer.json");
    let json = read_json(&path)?;
    let source = Source { path: &path, json: &json };
    let unreadable = |error: collimate_data::DataError| source.unsupported("tokenizer", "null", &error.to_string());
    let tokenizer = TextTokenizer::from_model_dir(dir).map_err(unreadable)?;
    if source.text("/model/type") != Some("BPE") {
        let found = source.text("/model/type").unwrap_or("none");
        return Err(source.unsupported("model.type", found, "llama.cpp reads BPE for decoders"));
    }
    let (mut tokens, mut kinds) = source.tokens(config.vocab_size)?;
    let mut entries = match source.is_byte_level() {
        true => byte_level(&source, pre)?,
        false => sentence_piece(&source, &tokens, &mut kinds)?,
    };
    let num_unused = kinds.iter().filter(|kind| **kind == UNUSED).count();
    if num_unused > 0 {
        notes.push(format!("{num_unused} rows of the vocabulary have no token and are marked as unused"));
    }
    let empty = |token: &String| token.is_empty();
    tokens
        .iter_mut()
        .enumerate()
        .filter(|(_, token)| empty(token))
        .for_each(|(id, token)| *token = format!("[PAD{id}]"));
    entries.push(Entry::list("tokenizer.ggml.tokens", Value::Texts(tokens)));
    entries.push(Entry::list("tokenizer.ggml.token_type", Value::Kinds(kinds)));
    entries.push(Entry::count("tokenizer.ggml.eos_token_id", tokenizer.eos_id() as usize));
    entries.extend(tokenizer.bos_id().map(|id| Entry::count("tokenizer.ggml.bos_token_id", id as usize)));
    entries.extend(tokenizer.pad_id().map(|id| Entry::count("tokenizer.ggml.padding_token_id", id as usize)));
    let begins = tokenizer.encode("", true).map_err(unreadable)?;
    let adds_bos = tokenizer.bos_id().is_some() && begins.first().copied() == tokenizer.bos_id();
    entries.push(Entry::flag("tokenizer.ggml.add_bos_token", adds_bos));
    entries.extend(tokenizer.chat_template().map(|template| Entry::text("tokenizer.chat_template", template.source())));
    Ok(entries)
}

fn byte_level(source: &Source<'_>, pre: Option<&str>) -> Result<Vec<Entry>, ModelError> {
    let found = pre_tokenizer::name(source.json);
    let unknown = || {
        let remedy = "llama.cpp knows no such splitting of text; name the nearest that it has with --tokenizer-pre";
        source.unsupported("pre_tokenizer", &source.json["pre_tokenizer"].to_string(), remedy)
    };
    let pre = pre.or(found).ok_or_else(unknown)?;
    let merges = source.merges()?.into_iter().map(|(left, right)| format!("{left} {right}")).collect();
    Ok(vec![
        Entry::text("tokenizer.ggml.model", "gpt2"),
        Entry::text("tokenizer.ggml.pre", pre),
        Entry::list("tokenizer.ggml.merges", Value::Texts(merges)),
    ])
}

/// llama.cpp joins the two neighbours whose token has the highest score, so a token scores by the rank of its merge.
fn sentence_piece(source: &Source<'_>, tokens: &[String], kinds: &mut [i32]) -> Result<Vec<Entry>, ModelError> {
    if source.json.pointer("/model/byte_fallback") != Some(&Json::Bool(true)) {
        let remedy = "llama.cpp reads byte-level BPE, or BPE whose unknown characters are bytes";
        return Err(source.unsupported("model.byte_fallback", "false", remedy));
    }
    let merges = source.merges()?;
    let ranks: std::collections::HashMap<String, usize> =
        merges.iter().enumerate().map(|(rank, (left, right))| (format!("{left}{right}"), rank)).collect();
    let last = merges.len();
    let score = |token: &String| -(ranks.get(token).copied().unwrap_or(last) as f32);
    let scores = tokens.iter().map(score).collect();
    for (token, kind) in tokens.iter().zip(kinds.iter_mut()) {
        let is_byte = token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
        if is_byte && u8::from_str_radix(&token[3..5], 16).is_ok() {
            *kind = BYTE;
        } else if Some(token.as_str()) == source.text("/model/unk_token") {
            *kind = UNKNOWN;
        }
    }
    Ok(vec![
        Entry::text("tokenizer.ggml.model", "llama"),
        Entry::text("tokenizer.ggml.pre", "default"),
        Entry::list("tokenizer.ggml.scores", Value::Numbers(scores)),
        Entry::flag("tokenizer.ggml.add_space_prefix", source.adds_space()),
    ])
}

impl Source<'_> {
    fn text(&self, pointer: &str) -> Option<&str> {
        self.json.pointer(pointer).and_then(Json::as_str)
    }

    fn unsupported(&self, field: &str, found: &str, remedy: &str) -> ModelError {
        let (field, found, remedy) = (field.to_owned(), found.to_owned(), remedy.to_owned());
        ModelError::Unsupported { path: self.path.to_owned(), field, found, remedy }
    }

    /// Tokens and their kinds by id; an id without a token has an empty one of no use.
    fn tokens(&self, vocab_size: usize) -> Result<(Vec<String>, Vec<i32>), ModelError> {
        let (mut tokens, mut kinds) = (vec![String::new(); vocab_size], vec![UNUSED; vocab_size]);
        let mut put = |token: &str, id: Option<u64>, kind: i32| {
            let place = id.and_then(|id| usize::try_from(id).ok()).filter(|id| *id < vocab_size);
            let beyond = || self.unsupported("model.vocab", token, "its id is beyond the model's vocabulary");
            let place = place.ok_or_else(beyond)?;
            (tokens[place], kinds[place]) = (token.to_owned(), kind);
            Ok::<_, ModelError>(())
        };
        let missing = || self.unsupported("model.vocab", "null", "a table of tokens is needed");
        let vocab = self.json.pointer("/model/vocab").and_then(Json::as_object).ok_or_else(missing)?;
        for (token, id) in vocab {
            put(token, id.as_u64(), NORMAL)?;
        }
        for added in self.json["added_tokens"].as_array().into_iter().flatten() {
            let kind = if added["special"] == true { CONTROL } else { USER_DEFINED };
            put(added["content"].as_str().unwrap_or_default(), added["id"].as_u64(), kind)?;
        }
        Ok((tokens, kinds))
    }

    /// The merges, each as its two sides: a list of two, or a text with one space in older files.
    fn merges(&self) -> Result<Vec<(String, String)>, ModelError> {
        let side = |value: &Json| value.as_str().map(str::to_owned);
        let pair = |merge: &Json| match merge {
            Json::Array(sides) if sides.len() == 2 => Some((side(&sides[0])?, side(&sides[1])?)),
            Json::String(text) => text.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())),
            _ => None,
        };
        let merges = self.json.pointer("/model/merges").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let broken = |merge: &Json| self.unsupported("model.merges", &merge.to_string(), "two tokens are needed");
        merges.iter().map(|merge| pair(merge).ok_or_else(|| broken(merge))).collect()
    }

    fn is_byte_level(&self) -> bool {
        pre_tokenizer::parts(&self.json["pre_tokenizer"]).iter().any(|part| part["type"] == "ByteLevel")
            || pre_tokenizer::parts(&self.json["decoder"]).iter().any(|part| part["type"] == "ByteLevel")
    }

    /// Whether a space is put before a text.
    fn adds_space(&self) -> bool {
        let pre = pre_tokenizer::parts(&self.json["pre_tokenizer"]);
        let metaspace = pre.iter().find(|part| part["type"] == "Metaspace");
        let by_pre =
            metaspace.is_some_and(|part| part["prepend_scheme"] != "never" && part["add_prefix_space"] != false);
        by_pre || pre_tokenizer::parts(&self.json["normalizer"]).iter().any(|part| part["type"] == "Prepend")
    }
}
