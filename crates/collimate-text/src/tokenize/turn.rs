//! The text that a chat template adds for the assistant's turn.

use collimate_chat::ChatTemplate;
use collimate_data::{ChatInputs, Message, Response};

use crate::tokenizer::PROBE;
use crate::{TextError, TextTokenizer};

/// The end of a thought that a response begins with, by the name that templates look for.
const THOUGHT: [&str; 2] = ["<think>", "</think>"];

/// A conversation awaiting the assistant's turn.
#[derive(Debug)]
pub(super) struct Turns<'a> {
    template: &'a ChatTemplate,
    messages: &'a [Message],
    inputs: &'a ChatInputs,
    prompt: String,
    /// What the generation prompt has and a whole conversation has not: it may open a thought, as `<think>\n`.
    opened: String,
    /// What the template writes after the last turn's content; `None` if it drops or changes the content.
    tail: Option<String>,
}

impl<'a> Turns<'a> {
    pub(super) fn new(
        template: &'a ChatTemplate,
        messages: &'a [Message],
        inputs: &'a ChatInputs,
    ) -> Result<Self, TextError> {
        let prompt = template.render_with(messages, inputs, true)?;
        let mut turns = Self { template, messages, inputs, prompt, opened: String::new(), tail: None };
        let rendered = turns.render(vec![Message::new("assistant", PROBE)])?;
        turns.tail = rendered.rsplit_once(PROBE).map(|(_, tail)| tail.to_owned());
        let common = turns.prompt.char_indices().zip(rendered.chars()).find(|((_, ours), theirs)| ours != theirs);
        turns.opened = common.map_or_else(String::new, |((start, _), _)| turns.prompt[start..].to_owned());
        Ok(turns)
    }

    /// The rendering up to and including the generation prompt.
    pub(super) fn prompt(&self) -> &str {
        &self.prompt
    }

    /// The assistant's turn after the prompt, up to its end-of-turn token, and whether it has one. Of a response of several
    /// turns it is all of them, with what the template writes between them: TRL scores that too.
    ///
    /// The end-of-turn token is the first after the content that can end a turn; such tokens inside the content stay. If
    /// the rendering does not continue the prompt (say, because the generation prompt opens a thought), or lacks the
    /// content's thought (as templates drop those of past turns), the turn is the content, trimmed if the template trims
    /// it, followed by what the template writes after it. What the prompt has opened stands there once: it is not repeated
    /// for content that begins with it.
    ///
    /// # Errors
    /// The content has a thought, and the generation prompt has closed one; or calls or reasoning have no place after it.
    pub(super) fn response(&self, response: &Response, tokenizer: &TextTokenizer) -> Result<(String, bool), TextError> {
        let content = response.content.as_str();
        let rendered = self.render(response.messages())?;
        let Some(turn) = rendered.strip_prefix(&self.prompt).filter(|turn| has_thought_of(turn, content)) else {
            // Only the content's place is known then, not that of calls or reasoning, or of other turns.
            let other = response.fields.keys().next().map(|name| format!("\"{name}\" of the response has no place"));
            let turns = || format!("its {} turns have no place", response.before.len() + 1);
            if let Some(what) = other.or_else(|| (!response.before.is_empty()).then(turns)) {
                let problem = format!("the text of the conversation does not continue the prompt's, so {what}");
                return Err(TextError::Turn { problem });
            }
            let content = self.continued(if rendered.contains(content) { content } else { content.trim() })?;
            let turn = format!("{content}{}", self.tail.as_deref().unwrap_or_default());
            return Ok(through_end_token(&turn, content.len(), tokenizer));
        };
        let content_end = match &self.tail {
            Some(tail) if turn.ends_with(tail.as_str()) => turn.len() - tail.len(),
            // Calls may end in another way than text does.
            _ if !response.fields.is_empty() => tokenizer.start_of_last_special(turn),
            _ => turn.rfind(content.trim()).map_or(0, |start| start + content.trim().len()),
        };
        Ok(through_end_token(turn, content_end, tokenizer))
    }

    /// The content without what the prompt has opened already.
    fn continued<'c>(&self, content: &'c str) -> Result<&'c str, TextError> {
        let [start, end] = THOUGHT;
        let closes = self.prompt.rfind(start).is_some_and(|at| self.prompt[at..].trim_end().ends_with(end));
        if closes && content.trim_start().starts_with(start) {
            return Err(TextError::Turn {
                problem: format!(
                    "the generation prompt ends with a thought ({start}…{end}), and the response has another"
                ),
            });
        }
        if self.opened.trim().is_empty() {
            return Ok(content);
        }
        let whole = content.strip_prefix(&self.opened);
        Ok(whole.or_else(|| content.trim_start().strip_prefix(self.opened.trim())).unwrap_or(content))
    }

    fn render(&self, answer: Vec<Message>) -> Result<String, TextError> {
        let messages: Vec<Message> = self.messages.iter().cloned().chain(answer).collect();
        Ok(self.template.render_with(&messages, self.inputs, false)?)
    }
}

/// Whether a turn has the thought that the content begins with, if it does. Templates rewrite the white space around it.
fn has_thought_of(turn: &str, content: &str) -> bool {
    let [start, end] = THOUGHT;
    let thought = content.split_once(end).map(|(thought, _)| thought.trim_start().trim_start_matches(start).trim());
    thought.is_none_or(|thought| turn.contains(thought))
}

/// Cuts `turn` after the first token that can end it at or after `content_end`; returns whether there was one.
fn through_end_token(turn: &str, content_end: usize, tokenizer: &TextTokenizer) -> (String, bool) {
    match tokenizer.first_end(&turn[content_end..]) {
        Some(end) => (turn[..content_end + end.end].to_owned(), true),
        None => (turn.to_owned(), false),
    }
}
