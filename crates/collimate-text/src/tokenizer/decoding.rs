//! Ids to text. Decoders take some 200 bytes of memory an id, so many ids are decoded in pieces.

use super::{TextTokenizer, guard};
use crate::TextError;

/// Ids that are decoded at once.
const IDS_AT_ONCE: usize = 16 << 10;
/// Ids before a piece that it is decoded with: decoders strip a space from the start of a text.
const IDS_BEFORE: usize = 8;
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
        guard::guarded(|| self.tokenizer.decode(ids, skip_special)).map_err(|problem| TextError::Encoding { problem })
    }
}
