//! Ids to text. Decoders take some 200 bytes of memory an id, so many ids are decoded in pieces.

use std::collections::HashMap;

use tokenizers::{DecoderWrapper, Tokenizer};

use super::{TextTokenizer, guard};
use crate::TextError;

/// Ids that are decoded at once.
const IDS_AT_ONCE: usize = 16 << 10;
/// Ids before a piece that it is decoded with: decoders strip a space from the start of a text.
const IDS_BEFORE: usize = 8;
/// The bytes that each token stands for, where a text's are those of its tokens one after the other (`ByteLevel`).
#[derive(Debug)]
pub(super) struct TokenBytes {
    bytes: Vec<u8>,
    /// Where each token's bytes end, by id.
    ends: Vec<usize>,
    /// By id.
    is_special: Vec<bool>,
}

impl TokenBytes {
    fn new(tokenizer: &Tokenizer) -> Option<Self> {
        let Some(DecoderWrapper::ByteLevel(_)) = tokenizer.get_decoder() else { return None };
        let byte_of = bytes_by_character();
        let count = tokenizer.get_vocab_size(true);
        let mut table =
            Self { bytes: Vec::new(), ends: Vec::with_capacity(count), is_special: Vec::with_capacity(count) };
        for id in 0..count as u32 {
            let token = tokenizer.id_to_token(id).unwrap_or_default();
            let mapped: Option<Vec<u8>> = token.chars().map(|character| byte_of.get(&character).copied()).collect();
            table.bytes.extend_from_slice(mapped.as_deref().unwrap_or(token.as_bytes()));
            table.ends.push(table.bytes.len());
            table.is_special.push(tokenizer.get_added_vocabulary().is_special_token(&token));
        }
        Some(table)
    }

    /// The text of some ids; `None` if one is beyond the table.
    fn decode(&self, ids: &[u32], skip_special: bool) -> Option<String> {
        let mut bytes = Vec::with_capacity(4 * ids.len());
        for id in ids.iter().map(|id| *id as usize) {
            let end = *self.ends.get(id)?;
            if !(skip_special && self.is_special[id]) {
                let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
                bytes.extend_from_slice(&self.bytes[start..end]);
            }
        }
        Some(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
}

/// The characters that byte-level tokenizers write bytes as: printable ones as themselves, the others from U+0100 on.
fn bytes_by_character() -> HashMap<char, u8> {
    let is_itself = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255_u8).filter(|byte| !is_itself(byte)).zip('\u{100}'..);
    let themselves = (0..=255_u8).filter(is_itself).map(|byte| (byte, char::from(byte)));
    themselves.chain(others).map(|(byte, character)| (character, byte)).collect()
}

/// Most ids by which a piece is made shorter so as to end where a character does.
const MOST_TRIES: usize = 16;

impl TextTokenizer {
    /// Decodes token ids, without special tokens if `skip_special`.
    ///
    /// # Errors
    /// [`TextError::Encoding`] if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        let (mut text, mut from) = (String::new(), 0);
        while ids.len() - from > IDS_AT_ONCE {
            let last = from + IDS_AT_ONCE;
            let mut ends = (last - MOST_TRIES..=last).rev();
            let is_whole = |end: &usize| {
                let around =
                    self.decode_at_once(&ids[end - IDS_BEFORE..(end + IDS_BEFORE).min(ids.len())], skip_special);
                let before = self.decode_at_once(&ids[end - IDS_BEFORE..*end], skip_special);
                let (Ok(around), Ok(before)) = (around, before) else { return false };
                !before.is_empty() && !before.ends_with(char::REPLACEMENT_CHARACTER) && around.starts_with(&before)
            };
            let end = ends.find(is_whole).unwrap_or(last);
            text.push_str(&self.decode_after(ids, from, end, skip_special)?);
            from = end;
        }
        text.push_str(&self.decode_after(ids, from, ids.len(), skip_special)?);
        Ok(text)
    }

    /// The text that ids add to that of the ids before them.
    fn decode_after(&self, ids: &[u32], from: usize, to: usize, skip_special: bool) -> Result<String, TextError> {
        let start = from.saturating_sub(IDS_BEFORE);
        let whole = self.decode_at_once(&ids[start..to], skip_special)?;
        let before = self.decode_at_once(&ids[start..from], skip_special)?;
        match whole.strip_prefix(&before) {
            Some(text) => Ok(text.to_owned()),
            None => self.decode_at_once(&ids[from..to], skip_special),
        }
    }

    pub(super) fn decode_at_once(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        let bytes = self.bytes.get_or_init(|| TokenBytes::new(&self.tokenizer));
        if let Some(text) = bytes.as_ref().and_then(|bytes| bytes.decode(ids, skip_special)) {
            return Ok(text);
        }
        guard::guarded(|| self.tokenizer.decode(ids, skip_special)).map_err(|problem| TextError::Encoding { problem })
    }
}
