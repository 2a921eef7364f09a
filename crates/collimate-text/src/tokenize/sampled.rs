//! Responses that a model sampled: their tokens stand in the data beside their text.

use collimate_data::Response;

use super::checks::TextChecks;
use crate::{TextError, TextTokenizer};

/// Characters of an example.
const EXAMPLE: usize = 32;

/// What a response's `token_ids` are.
#[derive(Debug)]
pub(super) enum Sampled<'a> {
    /// The row has none.
    Nothing,
    /// What the text says with this tokenizer: the tokens of the response, with those that ended it.
    Own(&'a [u32]),
    /// Something else, which they say: another tokenizer's, or the text was edited. The text is encoded like any other.
    Foreign(String),
}

impl<'a> Sampled<'a> {
    pub(super) fn new(response: &'a Response, tokenizer: &TextTokenizer) -> Result<Self, TextError> {
        let Some(ids) = response.token_ids.as_ref().filter(|_| response.before.is_empty()) else {
            return Ok(Self::Nothing);
        };
        let text = tokenizer.answer(ids)?;
        Ok(if text == response.content { Self::Own(ids) } else { Self::Foreign(text) })
    }

    /// The response's tokens if they were sampled; counts them, or that they are others.
    pub(super) fn ids(&self, content: &str, place: (usize, usize), checks: &mut TextChecks) -> Option<&'a [u32]> {
        match self {
            Self::Nothing => None,
            Self::Own(ids) => {
                checks.texts += 1;
                checks.sampled += 1;
                Some(ids)
            }
            Self::Foreign(text) => {
                let start = |text: &str| text.chars().take(EXAMPLE).collect::<String>();
                checks.foreign.add(place, || format!("{:?} in place of {:?}", start(text), start(content)));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
