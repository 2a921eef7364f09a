//! Where a model's turns end: the one place that decides it, for training, for generation and for what is saved.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use collimate_chat::ChatTemplate;
use collimate_data::Message;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::{TextTokenizer, guard};
use crate::TextError;
use crate::model_files::read_json;

/// Rendered in place of a turn's content to find what the template writes after it. Private-use characters do not occur
/// in real text, and no template trims them.
pub(crate) const PROBE: &str = "\u{E0C0}\u{E0C1}\u{E0C0}";

/// A shorter text is too common in answers to end one, like the quotation mark of a template that quotes them.
const LEAST_END_BYTES: usize = 3;
/// No model writes a longer text to end its turn, and looking for it decodes as many tokens after each that is drawn.
const MOST_END_BYTES: usize = 1024;

/// The tokens that end an answer, and the text that does if a template's end is no single token.
///
/// In this order: what the chat template writes after an assistant's turn, EOS, then `eos_token_id` of
/// `generation_config.json` and of `config.json`.
#[derive(Clone, Default)]
pub struct TurnEnds {
    ids: Vec<u32>,
    text: Option<EndText>,
    /// What the template writes between a turn's content and its end, usually nothing or whitespace.
    between: String,
    /// Finds the tokens that can end a turn: special ones, EOS, and those looked for in a text before the rest is encoded.
    finder: Option<AhoCorasick>,
    /// Ids from files.
    pub(super) listed: Vec<u32>,
}

/// The end of a turn that is several tokens.
#[derive(Clone)]
struct EndText {
    text: String,
    /// Finds the text in ids, however it is divided into tokens.
    tokenizer: Arc<Tokenizer>,
}

impl TurnEnds {
    /// Ends that are tokens.
    pub fn of_ids(ids: Vec<u32>) -> Self {
        Self { ids, ..Self::default() }
    }

    /// The tokens, the end of a turn first.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// What ends a turn if that is no single token: `<|im_end|>` for a tokenizer that does not know it.
    pub fn text(&self) -> Option<&str> {
        self.text.as_ref().map(|end| end.text.as_str())
    }

    /// Whether an answer of these tokens is complete.
    pub fn is_reached(&self, ids: &[u32]) -> bool {
        ids.last().is_some_and(|last| self.ids.contains(last)) || self.text.as_ref().is_some_and(|end| end.is_in(ids))
    }
}

impl EndText {
    /// Whether the last of these tokens contain the text.
    fn is_in(&self, ids: &[u32]) -> bool {
        // A token has at least one byte, and the first and the last may have more than the text's.
        let last = &ids[ids.len().saturating_sub(self.text.len() + 1)..];
        guard::guarded(|| self.tokenizer.decode(last, false)).is_ok_and(|text| text.contains(&self.text))
    }
}

impl fmt::Debug for TurnEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnEnds").field("ids", &self.ids).field("text", &self.text()).finish_non_exhaustive()
    }
}

impl PartialEq for TurnEnds {
    fn eq(&self, other: &Self) -> bool {
        (&self.ids, self.text(), &self.between) == (&other.ids, other.text(), &other.between)
    }
}

impl TextTokenizer {
    /// Where a turn ends.
    pub fn turn_ends(&self) -> &TurnEnds {
        &self.ends
    }

    /// The text of an answer of these tokens: without the end of the turn, and without special tokens.
    ///
    /// # Errors
    /// [`TextError::Encoding`] if the tokenizer's decoder fails.
    pub fn answer(&self, ids: &[u32]) -> Result<String, TextError> {
        let content = ids.split_last().filter(|(last, _)| self.ends.ids.contains(last)).map(|(_, content)| content);
        let mut text = self.decode(content.unwrap_or(ids), true)?;
        let end = self.ends.text().and_then(|end| text.find(end));
        if let Some(end) = end {
            text.truncate(end);
        }
        if content.is_some() || end.is_some() {
            let len = text.strip_suffix(self.ends.between.as_str()).map_or(text.len(), str::len);
            text.truncate(len);
        }
        Ok(text)
    }

    /// Makes another token EOS, as `eos_token` of a recipe does; the chat template sees it too.
    ///
    /// # Errors
    /// [`TextError::Encoding`] if the tokenizer has no such token.
    pub fn with_eos_token(mut self, text: &str) -> Result<Self, TextError> {
        let problem = || format!("eos_token: {text:?} is not a token of tokenizer.json");
        self.eos = self.token_id(text).ok_or_else(|| TextError::Encoding { problem: problem() })?;
        self.chat_template = self.chat_template.map(|template| template.with_eos_token(text));
        let listed = std::mem::take(&mut self.ends.listed);
        Ok(self.with_ends(listed))
    }

    /// Adds the ends that another folder's `generation_config.json` and `config.json` list, of an adapter's base for example.
    ///
    /// # Errors
    /// As [`TextTokenizer::from_model_dir`] for these files.
    pub fn with_ends_of(mut self, dir: &Path) -> Result<Self, TextError> {
        let mut listed = std::mem::take(&mut self.ends.listed);
        listed.extend(listed_ends(dir)?);
        Ok(self.with_ends(listed))
    }

    /// Finds where a turn ends, which depends on the chat template and on EOS; `listed` are ends from files.
    pub(super) fn with_ends(mut self, listed: Vec<u32>) -> Self {
        let tail = self.chat_template.as_ref().and_then(tail_of_a_turn).unwrap_or_default();
        let texts = self.special_texts.iter().cloned().chain(self.other_texts());
        // One pass over a text, however many tokens there are. Their bytes are bounded, so it can be built.
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts).ok();
        self.ends = TurnEnds { finder, ..TurnEnds::default() };
        let token = self.first_end(&tail).and_then(|end| Some((end.start, self.token_id(&tail[end])?)));
        let (start, text) = (tail.len() - tail.trim_start().len(), tail.trim());
        let ends = &mut self.ends;
        match token {
            Some((start, id)) => {
                ends.ids.push(id);
                ends.between = tail[..start].to_owned();
            }
            None if (LEAST_END_BYTES..=MOST_END_BYTES).contains(&text.len()) => {
                ends.text = Some(EndText { text: text.to_owned(), tokenizer: Arc::clone(&self.tokenizer) });
                ends.between = tail[..start].to_owned();
            }
            None => {}
        }
        let mut known: HashSet<u32> = ends.ids.iter().copied().collect();
        // Nothing ends a picture but its length.
        let eos = self.pictures.is_none().then_some(self.eos);
        ends.ids.extend(eos.into_iter().chain(listed.iter().copied()).filter(|id| known.insert(*id)));
        ends.listed = listed;
        self
    }

    /// The first token in a text that can end a turn: special, EOS, or looked for in a text before the rest is encoded.
    pub(crate) fn first_end(&self, text: &str) -> Option<Range<usize>> {
        // The earliest; among several at the same offset, the longest.
        Some(self.ends.finder.as_ref()?.find(text)?.range())
    }

    /// EOS and the tokens that are not special but looked for in a text. Spaces and line breaks end nothing.
    fn other_texts(&self) -> Vec<String> {
        let added = self.tokenizer.get_added_tokens_decoder().into_values();
        let added = added.filter(|token| !token.special && !token.content.trim().is_empty());
        added.map(|token| token.content).chain(self.token_text(self.eos)).collect()
    }
}

/// What a template writes after the content of the assistant's last turn; `None` if it refuses a conversation or drops
/// the content.
fn tail_of_a_turn(template: &ChatTemplate) -> Option<String> {
    let turn = |role: &str, content: &str| Message::new(role, content);
    let (question, answer) = (turn("user", "1"), turn("assistant", PROBE));
    let conversations = [vec![question.clone(), answer.clone()], vec![turn("system", "1"), question, answer]];
    let rendered = conversations.iter().find_map(|messages| template.render(messages, false).ok())?;
    rendered.rsplit_once(PROBE).map(|(_, tail)| tail.to_owned())
}

/// `eos_token_id` of a folder's `generation_config.json`, then of its `config.json`: one or several each.
pub(super) fn listed_ends(dir: &Path) -> Result<Vec<u32>, TextError> {
    let mut listed = Vec::new();
    for file in ["generation_config.json", "config.json"] {
        let path = dir.join(file);
        let Some(config) = read_json(&path)? else { continue };
        let ids = match &config["eos_token_id"] {
            Value::Null => continue,
            Value::Array(ids) => ids.as_slice(),
            id => std::slice::from_ref(id),
        };
        for id in ids {
            let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
                let problem = format!("field \"eos_token_id\": expected a token id or a list of token ids, found {id}");
                return Err(TextError::File { path, problem });
            };
            listed.push(id);
        }
    }
    Ok(listed)
}
