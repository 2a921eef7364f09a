//! A model's tokenizer with its special tokens and its chat template.

mod guard;

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::Tokenizer;

use crate::model_files::{read_bytes, read_json};
use crate::{ChatTemplate, TextError};

/// A model's tokenizer: text to token ids and back. One is shared by all threads.
///
/// Reads `tokenizer.json`; SentencePiece and tiktoken files are not read.
#[derive(Debug)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    chat_template: Option<ChatTemplate>,
    eos: u32,
    bos: Option<u32>,
    pad: Option<u32>,
    /// Whether a text begins with BOS, where the folder says so apart from `tokenizer.json`.
    adds_bos: Option<bool>,
    special_texts: Vec<String>,
    special_ids: Vec<u32>,
}

impl TextTokenizer {
    /// Reads the tokenizer, its special tokens and its chat template from a model's folder.
    ///
    /// EOS, BOS and padding come from `tokenizer_config.json` and `special_tokens_map.json` by text, else from
    /// `generation_config.json` and `config.json` by id. A truncation or padding stored in `tokenizer.json` is ignored.
    ///
    /// # Errors
    /// No or no readable `tokenizer.json`, no EOS, or a special token that the vocabulary does not have; each names the
    /// file and the field.
    pub fn from_model_dir(dir: &Path) -> Result<Self, TextError> {
        let path = dir.join("tokenizer.json");
        let file_error = |problem: String| TextError::File { path: path.clone(), problem };
        let Some(bytes) = read_bytes(&path, guard::MAX_TOKENIZER_BYTES)? else {
            return Err(file_error("no such file; a model's folder needs its tokenizer as tokenizer.json".to_owned()));
        };
        let mut tokenizer =
            guard::parse(&bytes).map_err(|problem| file_error(format!("not a readable tokenizer: {problem}")))?;
        drop(bytes);
        tokenizer.with_truncation(None).map_err(|error| file_error(error.to_string()))?;
        tokenizer.with_padding(None);

        let special = SpecialTokens::from_model_dir(dir)?;
        let eos = special.id(&tokenizer, "eos_token", dir)?.ok_or_else(|| TextError::File {
            path: dir.to_owned(),
            problem: "no end-of-sequence token: expected \"eos_token\" in tokenizer_config.json or \
                      special_tokens_map.json, or \"eos_token_id\" in generation_config.json or config.json"
                .to_owned(),
        })?;
        let bos = special.id(&tokenizer, "bos_token", dir)?;
        let pad = special.id(&tokenizer, "pad_token", dir)?;
        let adds_bos = special.adds_bos.map(|adds| adds && bos.is_some());
        let chat_template = ChatTemplate::from_model_dir(dir)?;

        let mut added: Vec<(u32, String)> = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(id, token)| (token.special || *id == eos) && !token.content.is_empty())
            .map(|(id, token)| (id, token.content))
            .collect();
        if !added.iter().any(|(id, _)| *id == eos) {
            added.extend(tokenizer.id_to_token(eos).map(|text| (eos, text)));
        }
        added.sort();
        let (special_ids, special_texts) = added.into_iter().unzip();
        Ok(Self { tokenizer, chat_template, eos, bos, pad, adds_bos, special_texts, special_ids })
    }

    /// Token ids of a text; with `add_special_tokens`, also what the tokenizer puts around every text (BOS, mostly).
    /// The text of a special token in `text` becomes that token. Where `tokenizer_config.json` has `add_bos_token`, a text
    /// begins with BOS, or with nothing, as that says; `add_eos_token` is passed over, since a response follows a prompt.
    ///
    /// # Errors
    /// [`TextError::Encoding`] where the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        let is_own = add_special_tokens && self.adds_bos.is_none();
        let encoded = guard::unbroken(|| Ok(self.tokenizer.encode_fast(text, is_own)?.get_ids().to_vec()));
        let mut ids = encoded.map_err(|problem| TextError::Encoding { problem })?;
        if let (true, Some(true), Some(bos)) = (add_special_tokens, self.adds_bos, self.bos) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// The text of token ids, without special tokens if `skip_special`.
    ///
    /// # Errors
    /// [`TextError::Encoding`] where the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        guard::unbroken(|| self.tokenizer.decode(ids, skip_special)).map_err(|problem| TextError::Encoding { problem })
    }

    /// A token as the vocabulary writes it (`Ġthe`, `▁the`, `<0x0A>`); none beyond the vocabulary.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The id of a token as the vocabulary writes it.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.tokenizer.token_to_id(text)
    }

    /// The text that each token adds when the ids are read from left to right, \[T\]. A token that ends inside a
    /// character adds nothing; the one that completes the character adds it.
    ///
    /// # Errors
    /// [`TextError::Encoding`] where the tokenizer's decoder fails.
    pub fn pieces(&self, ids: &[u32]) -> Result<Vec<String>, TextError> {
        let pieces = guard::unbroken(|| {
            let mut stream = self.tokenizer.decode_stream(false);
            ids.iter().map(|id| Ok(stream.step(*id)?.unwrap_or_default())).collect()
        });
        pieces.map_err(|problem| TextError::Encoding { problem })
    }

    /// The token that ends a response.
    pub fn eos_id(&self) -> u32 {
        self.eos
    }

    /// The token that starts a text, where the model has one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The token that fills a batch, where the model has one.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad
    }

    /// Number of tokens, the added ones included. A model may have more rows in its embedding.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Whether a token is special: EOS, end of turn, BOS and the like.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.binary_search(&id).is_ok()
    }

    /// The model's chat template, where it has one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// The same tokenizer with another chat template.
    pub fn with_chat_template(mut self, template: ChatTemplate) -> Self {
        self.chat_template = Some(template);
        self
    }

    /// End of the first special token's text in `text`, in bytes.
    pub(crate) fn end_of_first_special(&self, text: &str) -> Option<usize> {
        let found = self.special_texts.iter().filter_map(|special| Some((text.find(special.as_str())?, special.len())));
        // The earliest; of those that start together the longest.
        found.min_by_key(|(start, len)| (*start, usize::MAX - len)).map(|(start, len)| start + len)
    }
}

/// The special tokens that a model's folder names.
#[derive(Debug, Default)]
pub(crate) struct SpecialTokens {
    /// Text by name: `bos_token` → `<s>`.
    pub(crate) texts: BTreeMap<String, String>,
    /// `add_bos_token`, where it is given.
    adds_bos: Option<bool>,
}

impl SpecialTokens {
    /// Reads `tokenizer_config.json`, then `special_tokens_map.json` for what the first does not name.
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

    /// The id of a named token: by its text, else by the id in `generation_config.json` or `config.json`.
    fn id(&self, tokenizer: &Tokenizer, field: &str, dir: &Path) -> Result<Option<u32>, TextError> {
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
                // Many folders keep a padding id of -1 or beyond the vocabulary; only EOS has to be right.
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

/// `bos_token`, `eos_token`, … but not `add_bos_token` or `split_special_tokens`.
fn is_token_field(field: &str) -> bool {
    matches!(field, "bos_token" | "eos_token" | "unk_token" | "sep_token" | "pad_token" | "cls_token" | "mask_token")
}

#[cfg(test)]
pub(crate) mod tests;
