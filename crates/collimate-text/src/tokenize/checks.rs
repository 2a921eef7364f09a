//! Whether the token ids of prompts and responses say what their texts say.

use collimate_data::{counted, either};

use crate::continuation::{Continuation, Opening};
use crate::{TextError, TextTokenizer, TokenizedGroup};

/// The first groups, and every such one after them, are compared with prompt and response encoded as one text.
const SAMPLED: usize = 64;
/// Characters of an example on either side of a boundary or a difference.
const EXAMPLE: usize = 16;

/// A count with the first of what was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// How many there are.
    pub count: usize,
    /// The first: index of its group, line of the file, and what it looks like.
    pub first: Option<(usize, usize, String)>,
}

/// What was found when ids were compared with texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextChecks {
    /// Texts whose ids were decoded: prompts and responses.
    pub texts: usize,
    /// Texts whose ids say something else.
    pub different: Found,
    /// Responses that cannot continue their prompt's tokens: a token would reach across the boundary.
    pub across: Found,
    /// Responses that were also encoded as one text with their prompt.
    pub compared: usize,
    /// Those of them whose ids are the same either way.
    pub joint: usize,
    /// Responses that are the tokens that a model sampled: those of their `token_ids`.
    pub sampled: usize,
    /// Responses with `token_ids` that are not what their text says with this tokenizer; the text was encoded.
    pub foreign: Found,
    /// Responses that end beyond the positions that the model was made for.
    pub too_long: Found,
    /// What is said of the tokenizer itself: [`TextTokenizer::warnings`].
    pub tokenizer: Vec<String>,
    /// Those positions, if the model's `config.json` says.
    pub max_positions: Option<usize>,
}

impl Found {
    pub(super) fn add(&mut self, place: (usize, usize), example: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(|| (place.0, place.1, example()));
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

impl TextChecks {
    /// Adds what was found in other groups, which come after these.
    pub fn merge(&mut self, other: Self) {
        self.texts += other.texts;
        self.different.merge(other.different);
        self.across.merge(other.across);
        self.compared += other.compared;
        self.joint += other.joint;
        self.sampled += other.sampled;
        self.foreign.merge(other.foreign);
        self.too_long.merge(other.too_long);
        if self.tokenizer.is_empty() {
            self.tokenizer = other.tokenizer;
        }
        self.max_positions = self.max_positions.or(other.max_positions);
    }

    /// One line about all texts.
    pub fn summary(&self) -> String {
        let (same, all) = (self.texts - self.different.count, self.texts);
        let one = match self.compared {
            0 => String::new(),
            compared => format!(
                "; {} of {} compared {} the same tokens when encoded as one text with {} prompt",
                self.joint,
                counted(compared, "response"),
                either(compared, "has", "have"),
                either(compared, "its", "their"),
            ),
        };
        let sampled = match self.sampled {
            0 => String::new(),
            sampled => format!(
                "; {} {} the tokens that were sampled (token_ids)",
                counted(sampled, "response"),
                either(sampled, "has", "have")
            ),
        };
        format!("tokens decoded give the text of {same} of {all} prompts and responses{one}{sampled}")
    }

    /// What the user should know of; `place` names a group by its index and line.
    pub fn warnings(&self, place: &dyn Fn(usize, usize) -> String) -> Vec<String> {
        // What is said of one, and of several.
        let warning = |found: &Found, [one, several]: [&str; 2], remedy: &str| {
            let (index, line, example) = found.first.as_ref()?;
            let (count, what) = (found.count, either(found.count, one, several));
            Some(format!("warning: {count} {what}, the first {} ({example}){remedy}", place(*index, *line)))
        };
        let positions = self.max_positions.unwrap_or_default();
        let found = [
            warning(
                &self.different,
                [
                    "prompt or response has tokens that give another text",
                    "prompts and responses have tokens that give another text",
                ],
                "",
            ),
            warning(
                &self.across,
                [
                    "response cannot continue its prompt's tokens, as a token would reach across the boundary",
                    "responses cannot continue their prompt's tokens, as a token would reach across the boundary",
                ],
                "; a space between the two belongs to the response",
            ),
            warning(
                &self.foreign,
                [
                    "response has token_ids that are not what its text says with this tokenizer",
                    "responses have token_ids that are not what their text says with this tokenizer",
                ],
                "; the text was encoded",
            ),
            warning(
                &self.too_long,
                [
                    &format!("response ends beyond the {positions} positions that the model was made for"),
                    &format!("responses end beyond the {positions} positions that the model was made for"),
                ],
                "; lower max_length",
            ),
        ];
        self.tokenizer.iter().cloned().chain(found.into_iter().flatten()).collect()
    }
}

/// Compares the ids of one group with its texts.
pub(super) struct Checker<'a> {
    pub(super) tokenizer: &'a TextTokenizer,
    pub(super) opening: &'a Opening<'a>,
    pub(super) prompt: &'a str,
    /// Index and line of the group.
    pub(super) place: (usize, usize),
    pub(super) checks: TextChecks,
}

impl Checker<'_> {
    pub(super) fn prompt(&mut self) -> Result<(), TextError> {
        if self.opening.num_left_out() > 0 {
            return Ok(());
        }
        self.checks.texts += 1;
        if let Some(at) = self.opening.difference()? {
            self.checks.different.add(self.place, || format!("prompt: {}", around(self.prompt, at)));
        }
        Ok(())
    }

    /// Compares a response: `text` as it was encoded, and `ids` that end with an end token, which give `ended`.
    pub(super) fn response(
        &mut self,
        text: &str,
        continuation: &Continuation,
        ids: &[u32],
        ended: &str,
    ) -> Result<(), TextError> {
        self.checks.texts += 1;
        if let Some(at) = self.tokenizer.difference(self.opening.end(), ids, ended)? {
            self.checks.different.add(self.place, || format!("response: {}", around(ended, at)));
        }
        self.boundary(text, continuation);
        let is_whole = continuation.joins && self.opening.num_left_out() == 0;
        if is_whole && (self.place.0 < SAMPLED || self.place.0.is_multiple_of(SAMPLED)) {
            self.checks.compared += 1;
            self.checks.joint += usize::from(self.opening.is_joint(text, &continuation.ids)?);
        }
        Ok(())
    }

    /// Counts a response that cannot continue its prompt's tokens.
    pub(super) fn boundary(&mut self, text: &str, continuation: &Continuation) {
        if !continuation.joins {
            self.checks.across.add(self.place, || {
                let start: String = text.chars().take(EXAMPLE).collect();
                format!("{:?} then {start:?}", last(self.prompt))
            });
        }
    }
}

/// Compares a group with what the model's files say: counts the responses that end beyond its positions.
pub(super) fn check_model(group: &TokenizedGroup, tokenizer: &TextTokenizer, checks: &mut TextChecks) {
    checks.tokenizer = tokenizer.warnings();
    checks.max_positions = tokenizer.max_positions();
    let Some(limit) = checks.max_positions else { return };
    for response in &group.responses {
        let tokens = group.prompt_ids.len() + response.ids.len();
        if tokens > limit {
            checks.too_long.add((group.index, group.line), || format!("{tokens} tokens with its prompt"));
        }
    }
}

/// The text around a byte offset.
fn around(text: &str, at: usize) -> String {
    let after: String = text[at..].chars().take(EXAMPLE).collect();
    format!("they differ at {after:?} after {:?}", last(&text[..at]))
}

/// The last characters of a text.
fn last(text: &str) -> &str {
    let start = text.char_indices().rev().nth(EXAMPLE - 1).map_or(0, |(start, _)| start);
    &text[start..]
}

#[cfg(test)]
mod tests;
