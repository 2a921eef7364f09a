//! A model's special tokens: BOS, EOS, padding and the like, by name.

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::Tokenizer;

use crate::TextError;
use crate::model_files::read_json;

/// The special tokens named in a model's folder.
#[derive(Debug, Default)]
pub(crate) struct SpecialTokens {
    /// Text by name: `bos_token` → `<s>`.
    pub(crate) texts: BTreeMap<String, String>,
    /// `add_bos_token`, if given.
    pub(crate) adds_bos: Option<bool>,
}

impl SpecialTokens {
    /// Reads `tokenizer_config.json`, then `special_tokens_map.json` for tokens missing from the first.
    pub(crate) fn from_model_dir(dir: &Path) -> Result<Self, TextError> {
        let mut special = Self::default();
        for file in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = dir.join(file);
            let Some(config) = read_json(&path)? else { continue };
            special.adds_bos = special.adds_bos.or_else(|| config["add_bos_token"].as_bool());
            for (field, value) in config.as_object().into_iter().flatten().filter(|(field, _)| is_token_field(field)) {
                let text = match value {
                    serde_json::Value::Null => continue,
                    serde_json::Value::String(text) => text,
                    serde_json::Value::Object(token) if token.get("content").is_some_and(|c| c.is_string()) => {
                        token["content"].as_str().unwrap_or_default()
                    }
                    _ => {
                        let problem = format!("field \"{field}\": expected a string or an object with \"content\"");
                        return Err(TextError::File { path, problem });
                    }
                };
                special.texts.entry(field.clone()).or_insert_with(|| text.to_owned());
            }
        }
        Ok(special)
    }

    /// The id of a named token: by its text, or else by its id in `generation_config.json` or `config.json`.
    pub(crate) fn id(&self, tokenizer: &Tokenizer, field: &str, dir: &Path) -> Result<Option<u32>, TextError> {
        if let Some(text) = self.texts.get(field) {
            return tokenizer.token_to_id(text).map(Some).ok_or_else(|| TextError::File {
                path: dir.join("tokenizer_config.json"),
                problem: format!("field \"{field}\": the token {text:?} is not in the vocabulary of tokenizer.json"),
            });
        }
        let field = format!("{field}_id");
        for file in ["generation_config.json", "config.json"] {
            let path = dir.join(file);
            let Some(config) = read_json(&path)? else { continue };
            let value = match &config[&field] {
                serde_json::Value::Null => continue,
                serde_json::Value::Array(ids) => ids.first().unwrap_or(&serde_json::Value::Null),
                value => value,
            };
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            match id.filter(|id| tokenizer.id_to_token(*id).is_some()) {
                Some(id) => return Ok(Some(id)),
                // Many folders have a padding id of -1 or beyond the vocabulary; only EOS must be valid.
                None if field != "eos_token_id" => continue,
                None => {
                    let problem = format!("field \"{field}\": expected a token id of tokenizer.json, found {value}");
                    return Err(TextError::File { path, problem });
                }
            }
        }
        Ok(None)
    }
}

/// Whether a field names a token: `bos_token`, but not `add_bos_token` or `split_special_tokens`.
fn is_token_field(field: &str) -> bool {
    matches!(field, "bos_token" | "eos_token" | "unk_token" | "sep_token" | "pad_token" | "cls_token" | "mask_token")
}
