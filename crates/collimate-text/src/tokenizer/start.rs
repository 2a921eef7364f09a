//! The ids of a text that another one follows.

use super::TextTokenizer;
use super::kept::{Keep, LeftOut};
use super::long::Framed;
use crate::TextError;

/// Ids of a text that another one follows.
#[derive(Debug, Clone)]
pub(crate) struct StartIds {
    /// With what the tokenizer puts before a text, if nothing before them is left out.
    pub(crate) ids: Vec<u32>,
    /// How many of them that is.
    pub(crate) num_before: usize,
    /// Of those that are not held.
    pub(crate) left_out: LeftOut,
}

impl TextTokenizer {
    /// Encodes a text that another one follows, without the tokens that end a text.
    pub(crate) fn encode_start(&self, text: &str, add_special_tokens: bool, keep: Keep) -> Result<StartIds, TextError> {
        let Framed { before, ids, mut left_out, .. } = self.framed(text, add_special_tokens, keep)?;
        let mut num_before = before.len();
        if left_out.count > 0 && matches!(keep, Keep::Last(_)) {
            left_out.count += std::mem::take(&mut num_before);
            return Ok(StartIds { ids, num_before, left_out });
        }
        Ok(StartIds { ids: around(before, ids, Vec::new()), num_before, left_out })
    }
}

/// Ids with those around them.
pub(super) fn around(before: Vec<u32>, ids: Vec<u32>, after: Vec<u32>) -> Vec<u32> {
    match before.is_empty() && after.is_empty() {
        true => ids,
        false => [before, ids, after].concat(),
    }
}
