//! Whether token ids, decoded, are a text.

use tokenizers::AddedToken;

use super::TextTokenizer;
use crate::TextError;

/// Where a tokenizer puts a space that a text has not, as those made from SentencePiece do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct InsertedSpaces {
    /// Before a text.
    at_start: bool,
    /// After a token that is looked for in the text, such as BOS.
    after_added: bool,
}

/// What stands before the ids that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing: a text begins.
    Nothing,
    /// A token.
    Token(u32),
}

impl TextTokenizer {
    /// Decodes ids that stand in the middle of a text: a space at their start stays.
    ///
    /// # Errors
    /// [`TextError::Encoding`] if the tokenizer's decoder fails.
    pub fn decode_continuation(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        let kept: Vec<u32> = ids.iter().copied().filter(|id| !skip_special || !self.is_special(*id)).collect();
        // Decoders strip a space from the start of a text; here EOS is the start.
        let anchor = self.decode(&[self.eos_id()], false)?;
        let whole = self.decode(&[&[self.eos_id()], kept.as_slice()].concat(), false)?;
        match whole.strip_prefix(&anchor) {
            Some(text) => Ok(text.to_owned()),
            None => self.decode(&kept, false),
        }
    }

    /// Where a text differs from what the ids say, in bytes; `None` if it does not.
    ///
    /// What the tokenizer does to every text is no difference: a space that it puts before a text or after an added token,
    /// and white space that an added token takes with it.
    ///
    /// # Errors
    /// [`TextError::Encoding`] if the tokenizer's decoder fails.
    pub(crate) fn difference(&self, before: Before, ids: &[u32], text: &str) -> Result<Option<usize>, TextError> {
        let (mut rest, mut ids) = (text, ids);
        let mut may_insert = match before {
            Before::Nothing => self.spaces.at_start,
            Before::Token(id) => {
                let token = self.marked(id);
                if token.is_some_and(|token| token.rstrip) {
                    rest = rest.trim_start();
                }
                token.is_some() && self.spaces.after_added
            }
        };
        while !ids.is_empty() {
            let num_plain = ids.iter().position(|id| self.marked(*id).is_some()).unwrap_or(ids.len());
            let at = text.len() - rest.len();
            let (plain, others) = ids.split_at(num_plain);
            if !plain.is_empty() {
                let decoded = self.decode_continuation(plain, false)?;
                let inserted = decoded.strip_prefix(' ').filter(|_| may_insert);
                let read = rest.strip_prefix(&decoded).or_else(|| rest.strip_prefix(inserted?));
                let Some(read) = read else { return Ok(Some(at + common_bytes(rest, &decoded))) };
                rest = read;
            }
            let Some((id, others)) = others.split_first() else { break };
            let Some(token) = self.marked(*id) else { break };
            let found = if token.lstrip { rest.trim_start() } else { rest };
            let Some(read) = found.strip_prefix(&token.content) else { return Ok(Some(text.len() - rest.len())) };
            rest = if token.rstrip { read.trim_start() } else { read };
            (ids, may_insert) = (others, self.spaces.after_added);
        }
        Ok((!rest.is_empty()).then_some(text.len() - rest.len()))
    }

    /// An added token that stands for its text. Some tokenizers list the tokens of bytes as added.
    fn marked(&self, id: u32) -> Option<&AddedToken> {
        self.added.get(&id).filter(|token| !is_byte(&token.content))
    }

    /// Tries where the tokenizer inserts spaces.
    pub(super) fn inserted_spaces(&self) -> InsertedSpaces {
        let begins_with_space = |ids: &[u32]| self.decode_continuation(ids, false).is_ok_and(|text| text == " a");
        let after = self.token_text(self.eos_id()).and_then(|eos| self.encode(&format!("{eos}a"), false).ok());
        let after = after.unwrap_or_default();
        InsertedSpaces {
            at_start: self.encode("a", false).is_ok_and(|ids| begins_with_space(&ids)),
            after_added: after.split_first().is_some_and(|(eos, ids)| *eos == self.eos_id() && begins_with_space(ids)),
        }
    }
}

/// Whether a token stands for one byte: `<0x0A>`.
fn is_byte(text: &str) -> bool {
    let digits = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Length of the common start of two texts, in whole characters.
fn common_bytes(left: &str, right: &str) -> usize {
    let pairs = left.chars().zip(right.chars());
    pairs.take_while(|(left, right)| left == right).map(|(character, _)| character.len_utf8()).sum()
}
