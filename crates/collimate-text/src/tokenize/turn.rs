//! Which text a chat template adds for the assistant's turn.

use crate::{ChatTemplate, TextError, TextTokenizer};
use collimate_data::Message;

/// Stands for a response's content to see what a template puts after it. Private-use characters: in no real text, and
/// no template trims them.
const PROBE: &str = "\u{E0C0}\u{E0C1}\u{E0C0}";

/// A conversation whose next turn is the assistant's.
#[derive(Debug)]
pub(super) struct Turns<'a> {
    template: &'a ChatTemplate,
    messages: &'a [Message],
    prompt: String,
    /// What the template writes after the content of the last turn; none where it drops or changes the content.
    tail: Option<String>,
}

impl<'a> Turns<'a> {
    pub(super) fn new(template: &'a ChatTemplate, messages: &'a [Message]) -> Result<Self, TextError> {
        let prompt = template.render(messages, true)?;
        let mut turns = Self { template, messages, prompt, tail: None };
        turns.tail = turns.render(PROBE)?.rsplit_once(PROBE).map(|(_, tail)| tail.to_owned());
        Ok(turns)
    }

    /// The rendering with its generation prompt.
    pub(super) fn prompt(&self) -> &str {
        &self.prompt
    }

    /// The text of the assistant's turn after the prompt, through its end-of-turn token, and whether it has one.
    ///
    /// The end-of-turn token is the first special token after the content, so text like it inside the content stays.
    /// Where the rendering does not continue the prompt (a generation prompt that opens a thinking block, say), the
    /// turn is the content, trimmed if the template trims it, with what the template writes after it.
    pub(super) fn response(&self, content: &str, tokenizer: &TextTokenizer) -> Result<(String, bool), TextError> {
        let rendered = self.render(content)?;
        let Some(turn) = rendered.strip_prefix(&self.prompt) else {
            let content = if rendered.contains(content) { content } else { content.trim() };
            let turn = format!("{content}{}", self.tail.as_deref().unwrap_or_default());
            return Ok(through_end_token(&turn, content.len(), tokenizer));
        };
        let content_end = match &self.tail {
            Some(tail) if turn.ends_with(tail.as_str()) => turn.len() - tail.len(),
            _ => turn.rfind(content.trim()).map_or(0, |start| start + content.trim().len()),
        };
        Ok(through_end_token(turn, content_end, tokenizer))
    }

    fn render(&self, content: &str) -> Result<String, TextError> {
        let answer = Message { role: "assistant".to_owned(), content: content.to_owned() };
        let messages: Vec<Message> = self.messages.iter().cloned().chain([answer]).collect();
        self.template.render(&messages, false)
    }
}

/// `turn` cut after the first special token that starts at or after `content_end`, and true; whole where there is none.
fn through_end_token(turn: &str, content_end: usize, tokenizer: &TextTokenizer) -> (String, bool) {
    match tokenizer.end_of_first_special(&turn[content_end..]) {
        Some(end) => (turn[..content_end + end].to_owned(), true),
        None => (turn.to_owned(), false),
    }
}
