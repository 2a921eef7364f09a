//! A model's tokenizer with its special tokens and its chat template.

mod guard;

use std::path::Path;

use tokenizers::Tokenizer;

use crate::model_files::read_bytes;
use crate::special_tokens::SpecialTokens;
use crate::{ChatTemplate, TextError};

/// A model's tokenizer: text to token ids and back. Can be shared between threads.
///
/// Reads `tokenizer.json`, not SentencePiece or tiktoken files.
#[derive(Debug)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    chat_template: Option<ChatTemplate>,
    eos: u32,
    bos: Option<u32>,
    pad: Option<u32>,
    /// Whether a text begins with BOS; `None` leaves it to `tokenizer.json`.
    adds_bos: Option<bool>,
    special_texts: Vec<String>,
    special_ids: Vec<u32>,
}

impl TextTokenizer {
    /// Reads the tokenizer, its special tokens and its chat template from a model's folder.
    ///
    /// EOS, BOS and padding come from `tokenizer_config.json` and `special_tokens_map.json` by text, or else from
    /// `generation_config.json` and `config.json` by id. Truncation and padding stored in `tokenizer.json` are ignored.
    ///
    /// # Errors
    /// `tokenizer.json` is missing or unreadable, there is no EOS, or a special token is not in the vocabulary; each
    /// error names the file and the field.
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

    /// Encodes a text; `add_special_tokens` adds the tokens that the tokenizer puts around a text, usually BOS.
    ///
    /// The text of a special token becomes that token. `add_bos_token` of `tokenizer_config.json` overrides whether a
    /// text begins with BOS. `add_eos_token` is ignored, since a response follows a prompt.
    ///
    /// # Errors
    /// [`TextError::Encoding`] if the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, TextError> {
        let is_own = add_special_tokens && self.adds_bos.is_none();
        let encoded = guard::guarded(|| Ok(self.tokenizer.encode_fast(text, is_own)?.get_ids().to_vec()));
        let mut ids = encoded.map_err(|problem| TextError::Encoding { problem })?;
        if let (true, Some(true), Some(bos)) = (add_special_tokens, self.adds_bos, self.bos) {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// Decodes token ids, without special tokens if `skip_special`.
    ///
    /// # Errors
    /// [`TextError::Encoding`] if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        guard::guarded(|| self.tokenizer.decode(ids, skip_special)).map_err(|problem| TextError::Encoding { problem })
    }

    /// A token as spelled in the vocabulary (`Ġthe`, `▁the`, `<0x0A>`); `None` beyond the vocabulary.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The id of a token, spelled as in the vocabulary.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.tokenizer.token_to_id(text)
    }

    /// The text that each token adds, from left to right, \[T\]. A token that ends inside a character adds nothing; the
    /// token that completes the character adds it.
    ///
    /// # Errors
    /// [`TextError::Encoding`] if the tokenizer's decoder fails.
    pub fn pieces(&self, ids: &[u32]) -> Result<Vec<String>, TextError> {
        let pieces = guard::guarded(|| {
            let mut stream = self.tokenizer.decode_stream(false);
            ids.iter().map(|id| Ok(stream.step(*id)?.unwrap_or_default())).collect()
        });
        pieces.map_err(|problem| TextError::Encoding { problem })
    }

    /// The token that ends a response.
    pub fn eos_id(&self) -> u32 {
        self.eos
    }

    /// The token that starts a text, if the model has one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The padding token, if the model has one.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad
    }

    /// Vocabulary size including added tokens. A model's embedding may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Whether a token is special, such as BOS, EOS or an end of turn.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.binary_search(&id).is_ok()
    }

    /// The model's chat template, if it has one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// Replaces the chat template.
    pub fn with_chat_template(mut self, template: ChatTemplate) -> Self {
        self.chat_template = Some(template);
        self
    }

    /// Byte offset in `text` of the special token that ends it but for white space; its length if there is none.
    pub(crate) fn start_of_last_special(&self, text: &str) -> usize {
        let trimmed = text.trim_end();
        let ends = self.special_texts.iter().filter(|special| trimmed.ends_with(special.as_str()));
        ends.map(|special| trimmed.len() - special.len()).min().unwrap_or(text.len())
    }

    /// Byte offset in `text` after the first special token.
    pub(crate) fn end_of_first_special(&self, text: &str) -> Option<usize> {
        let found = self.special_texts.iter().filter_map(|special| Some((text.find(special.as_str())?, special.len())));
        // The earliest; among several at the same offset, the longest.
        found.min_by_key(|(start, len)| (*start, usize::MAX - len)).map(|(start, len)| start + len)
    }
}

#[cfg(test)]
pub(crate) mod tests;
