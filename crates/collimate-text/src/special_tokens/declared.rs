//! Tokens as the files of a model's folder declare them.

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use tokenizers::AddedToken;

/// The longest token, in bytes, as in `tokenizer.json`.
const MAX_TOKEN_BYTES: usize = 2048;

/// A token with the settings that a file gives it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Declared {
    pub(super) content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    /// By default the opposite of `special`.
    #[serde(default)]
    normalized: Option<bool>,
    #[serde(default)]
    pub(super) special: bool,
}

impl Declared {
    /// A special token that is given by its text alone.
    pub(super) fn special(content: &str) -> Self {
        Self { special: true, ..Self::plain(content) }
    }

    /// A token of `added_tokens.json`; a special one if another file names it.
    pub(super) fn of_added_tokens(content: &str, special: bool) -> Self {
        Self { special, normalized: Some(!special), ..Self::plain(content) }
    }

    /// A token that the tokenizer has already.
    pub(super) fn of_tokenizer(token: &AddedToken) -> Self {
        Self {
            content: token.content.clone(),
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            normalized: Some(token.normalized),
            special: token.special,
        }
    }

    /// Reads a text or an object with `content`.
    pub(super) fn read(value: &Json) -> Result<Self, String> {
        let token = match value {
            Json::String(text) => Self::special(text),
            value => serde_json::from_value(value.clone())
                .map_err(|_| "expected a string or an object with \"content\"".to_owned())?,
        };
        match token.content.len() > MAX_TOKEN_BYTES {
            true => Err(format!("a token of {} bytes, at most {MAX_TOKEN_BYTES} are read", token.content.len())),
            false => Ok(token),
        }
    }

    pub(super) fn to_added_token(&self) -> AddedToken {
        AddedToken {
            content: self.content.clone(),
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            normalized: self.normalized.unwrap_or(!self.special),
            special: self.special,
        }
    }

    fn plain(content: &str) -> Self {
        Self {
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: None,
            special: false,
        }
    }
}

/// The fields that both `tokenizer_config.json` and `special_tokens_map.json` may have, merged as transformers does.
#[derive(Debug, Default)]
pub(super) struct Fields(pub(super) Map<String, Json>);

impl Fields {
    /// Fields of `tokenizer_config.json`. `additional_special_tokens` is the old name of `extra_special_tokens`.
    pub(super) fn of_config(mut fields: Map<String, Json>) -> Self {
        if is_empty(fields.get("extra_special_tokens"))
            && let Some(additional) = fields.shift_remove("additional_special_tokens")
        {
            fields.insert("extra_special_tokens".to_owned(), additional);
        }
        Self(fields)
    }

    /// Adds the fields of `special_tokens_map.json`, which replace those of the same name.
    pub(super) fn merge(&mut self, map: Map<String, Json>) {
        for (field, mut value) in map {
            match (&mut value, field.as_str()) {
                // Lists are joined.
                (Json::Array(tokens), "extra_special_tokens") => {
                    if let Some(Json::Array(existing)) = self.0.get(&field) {
                        let added: Vec<Json> = tokens.drain(..).filter(|token| !existing.contains(token)).collect();
                        *tokens = existing.iter().cloned().chain(added).collect();
                    }
                }
                (Json::Object(token), name) if name != "extra_special_tokens" => {
                    token.insert("special".to_owned(), Json::Bool(true));
                }
                _ => {}
            }
            self.0.insert(field, value);
        }
        if !self.0.contains_key("extra_special_tokens")
            && let Some(additional) = self.0.shift_remove("additional_special_tokens")
        {
            self.0.insert("extra_special_tokens".to_owned(), additional);
        }
    }
}

fn is_empty(value: Option<&Json>) -> bool {
    match value {
        None | Some(Json::Null | Json::Bool(false)) => true,
        Some(Json::Array(list)) => list.is_empty(),
        Some(Json::Object(fields)) => fields.is_empty(),
        Some(Json::String(text)) => text.is_empty(),
        _ => false,
    }
}
