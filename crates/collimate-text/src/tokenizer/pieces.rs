//! The text that each token adds.

use super::TextTokenizer;
use crate::TextError;

/// Most tokens that wait for a character to be complete: one has at most four bytes, and some tokens have no text.
const MOST_WAITING: usize = 16;

impl TextTokenizer {
    /// The text that each token adds, from left to right, \[T\]. A token that ends inside a character adds nothing; the
    /// token that completes the character adds it. Ids that are no token add nothing.
    ///
    /// # Errors
    /// [`TextError::Encoding`] if the tokenizer's decoder fails.
    pub fn pieces(&self, ids: &[u32]) -> Result<Vec<String>, TextError> {
        // What a token adds depends on the token before: decoders strip a space from the start of a text.
        let (mut before, mut waiting) = (Vec::new(), Vec::new());
        let mut pieces = Vec::with_capacity(ids.len());
        for id in ids {
            if self.token_text(*id).is_none() {
                pieces.push(String::new());
                continue;
            }
            waiting.push(*id);
            let piece = self.added_by(&waiting, &before)?;
            let is_complete = !piece.is_empty() && !piece.ends_with(char::REPLACEMENT_CHARACTER);
            // Otherwise ids that never complete a character would be decoded again with each id after them.
            let gives_up = waiting.len() == MOST_WAITING;
            if is_complete || (gives_up && !piece.is_empty()) {
                before = std::mem::take(&mut waiting);
            } else if gives_up {
                waiting.clear();
            }
            pieces.push(if is_complete || gives_up { piece } else { String::new() });
        }
        Ok(pieces)
    }

    /// The text that ids add to that of the ids before.
    fn added_by(&self, ids: &[u32], before: &[u32]) -> Result<String, TextError> {
        let start = self.decode(before, false)?;
        let whole = self.decode(&[before, ids].concat(), false)?;
        match whole.strip_prefix(&start) {
            Some(text) => Ok(text.to_owned()),
            // They complete a character that was given up.
            None => self.decode(ids, false),
        }
    }
}
