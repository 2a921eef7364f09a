//! How much text a row may have, checked before it is rendered or encoded.

use std::sync::{Mutex, MutexGuard, PoisonError};

use collimate_data::{Prompt, PromptGroup};

use super::TokenizeOptions;
use crate::UnusableReason;

/// Bytes of a row's prompt and responses together, as the chat template writes them.
const MAX_ROW_BYTES: usize = 64 << 20;
/// Rows with more text than this are tokenized one at a time, however many cores there are.
const LARGE_ROW_BYTES: usize = 1 << 20;

/// Taken to tokenize a large row.
static LARGE_ROW: Mutex<()> = Mutex::new(());

/// The size of a row so far.
#[derive(Debug)]
pub(super) struct Size {
    bytes: usize,
    /// The most bytes of a prompt.
    most_prompt: usize,
    /// The most bytes of a response.
    most_response: usize,
    /// Held once the row is large.
    alone: Option<MutexGuard<'static, ()>>,
}

impl Size {
    /// Checks a row as it stands in its file; a text that no option cuts may have `limit` bytes.
    ///
    /// # Errors
    /// [`UnusableReason::TooLong`], with the field.
    pub(super) fn of_row(group: &PromptGroup, limit: usize, options: &TokenizeOptions) -> Result<Self, UnusableReason> {
        let most = |is_cut| if is_cut { MAX_ROW_BYTES } else { limit };
        let (most_prompt, most_response) = (most(options.max_prompt_length.is_some()), most(options.cuts_responses()));
        let prompt = match &group.prompt {
            Prompt::Text(text) => text.len(),
            Prompt::Messages(messages) => messages.iter().map(|message| message.content.len()).sum(),
        };
        within(|| "prompt".to_owned(), prompt, most_prompt)?;
        let mut size = Self { bytes: prompt, most_prompt, most_response, alone: None };
        for (k, response) in group.responses.iter().enumerate() {
            let before = response.before.iter().map(|message| message.content.len()).sum::<usize>();
            let text = before + response.content.len();
            within(|| format!("responses[{k}].content"), text, most_response)?;
            // An id stands for at least a byte, but for those that have no text.
            let num_ids = response.token_ids.as_ref().map_or(0, Vec::len);
            within(|| format!("responses[{k}].token_ids"), num_ids, limit)?;
            size.bytes += text + num_ids;
        }
        size.settle();
        // What is encoded is counted as it is made.
        size.bytes = 0;
        Ok(size)
    }

    /// Adds a text that will be encoded: of a response, or the prompt without one.
    ///
    /// # Errors
    /// [`UnusableReason::TooLong`], with the field.
    pub(super) fn add(&mut self, response: Option<usize>, text: &str) -> Result<(), UnusableReason> {
        let field = || response.map_or_else(|| "prompt".to_owned(), |k| format!("responses[{k}].content"));
        within(field, text.len(), if response.is_some() { self.most_response } else { self.most_prompt })?;
        self.bytes += text.len();
        within(|| "responses".to_owned(), self.bytes, MAX_ROW_BYTES)?;
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        if self.bytes > LARGE_ROW_BYTES && self.alone.is_none() {
            self.alone = Some(LARGE_ROW.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

fn within(field: impl FnOnce() -> String, size: usize, limit: usize) -> Result<(), UnusableReason> {
    match size > limit {
        true => Err(UnusableReason::TooLong { field: field(), size, limit }),
        false => Ok(()),
    }
}
