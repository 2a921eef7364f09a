//! Writes the tokenizer in `tokenizer.json` and the chat template as llama.cpp's keys.

use std::path::Path;

use collimate_hf::{HfError, ModelConfig, read_bounded};
use collimate_text::TextTokenizer;
use serde_json::Value as Json;

use crate::error::GgufError;
use crate::format::{Entry, Value};
use crate::stripping::Stripping;
use crate::tokenizer_file::{File, Tokens};
use crate::{pre_tokenizer, sentencepiece};

/// The largest `tokenizer.json` in bytes, the same limit as for reading the tokenizer itself.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// End-of-turn and end-of-text tokens that llama.cpp recognizes by name.
const KNOWN_ENDS: [&str; 8] =
    ["<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>"];

/// All keys of the tokenizer, and how it treats spaces beside special tokens.
pub(crate) fn entries(
    model_dir: &Path,
    config: &ModelConfig,
    named_pre: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<(Vec<Entry>, Stripping), GgufError> {
    let tokenizer = TextTokenizer::from_model_dir(model_dir)?;
    let path = model_dir.join("tokenizer.json");
    let json: Json = serde_json::from_slice(&read_bounded(&path, MAX_TOKENIZER_BYTES)?)
        .map_err(|error| HfError::json(&path, &error))?;
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
    Ok((entries, Stripping::from_tokens(&tokenizer.added_tokens())))
}

/// The model's end-of-text tokens, other than the tokenizer's own, that llama.cpp does not recognize by name.
pub(crate) fn other_ends<'a>(tokens: &'a Tokens, eos: u32, ends: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
    let known = |id: u32| tokens.texts.get(id as usize).is_some_and(|text| KNOWN_ENDS.contains(&text.as_str()));
    ends.iter().copied().filter(move |id| *id != eos && !known(*id))
}

/// Ids of special tokens, and whether texts begin and end with one.
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
    let mut ends = other_ends(tokens, eos, &config.eos_token_ids);
    entries.extend(ends.next().map(|end| id("eot", end)));
    let unlisted: Vec<&str> = ends.filter_map(|end| tokens.texts.get(end as usize)).map(String::as_str).collect();
    if !unlisted.is_empty() {
        notes.push(format!("llama.cpp may not stop at {}: a file has room for two ends", unlisted.join(", ")));
    }
    let unknown = file.json["model"]["unk_token"].as_str().and_then(|text| tokenizer.token_id(text));
    entries.extend(unknown.map(|unknown| id("unknown", unknown)));
    entries.extend(tokenizer.pad_id().map(|pad| id("padding", pad)));
    let around = tokenizer.encode("a", true).unwrap_or_default();
    entries.push(Entry::flag("tokenizer.ggml.add_bos_token", bos.is_some() && around.first().copied() == bos));
    entries.push(Entry::flag("tokenizer.ggml.add_eos_token", around.last() == Some(&eos)));
    entries
}
