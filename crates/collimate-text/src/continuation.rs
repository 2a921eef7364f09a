//! How a text that continues another one is encoded: the only place that decides it.
//!
//! Whoever samples draws tokens one after the other, so a response's ids are those that follow the prompt's when both are
//! encoded as one text. Encoded by itself it would get what a tokenizer puts before a text: a space, with those made from
//! SentencePiece.

use collimate_data::{ChatInputs, Prompt};

use crate::tokenize::images::{expanded, images_of};
use crate::tokenizer::{Before, Keep, LeftOut, StartIds};
use crate::unusable::MEMORY_REMEDY;
use crate::{EncodedPrompt, TextError, TextTokenizer, UnusableReason};

/// Texts whose end is certain to be the end of a token, tried in this order where the prompt's end is not.
const BOUNDARIES: [&str; 5] = ["\n", ":", "0", "a", "\u{1}"];

/// Bytes of a prompt's end beyond which only half of them are encoded again with each response.
const LONG_CONTEXT: usize = 512;
/// Tokens at the end of a prompt that must be the same when only its last words are encoded.
const SAME_TOKENS: usize = 32;

/// A prompt as training encodes it: what comes before a response. `chat` is for the chat template.
///
/// # Errors
/// Messages for a model without a chat template, or a prompt that the template or tokenizer rejects or that is too long; an image
/// that cannot be read or decoded, or a model that computes none.
pub fn encode_prompt(
    prompt: &Prompt,
    chat: &ChatInputs,
    tokenizer: &TextTokenizer,
) -> Result<EncodedPrompt, TextError> {
    if let Some(pictures) = tokenizer.pictures() {
        let token = pictures.prompt(prompt).map_err(|reason| TextError::Encoding { problem: reason.to_string() })?;
        return Ok(vec![token].into());
    }
    let problem = |reason: UnusableReason| TextError::Image { problem: reason.to_string() };
    let (prompt, images) = images_of(prompt, tokenizer).map_err(problem)?;
    let ids = prompt_ids(&prompt, chat, tokenizer)?;
    let (ids, images) = expanded(ids, images, tokenizer).map_err(problem)?;
    Ok(EncodedPrompt { ids, images })
}

/// Token ids of a prompt whose images are one token each.
fn prompt_ids(prompt: &Prompt, chat: &ChatInputs, tokenizer: &TextTokenizer) -> Result<Vec<u32>, TextError> {
    let (limit, remedy) = (tokenizer.max_text_bytes(), MEMORY_REMEDY);
    let encode = |text: &str, adds_special| match text.len() {
        size if size > limit => {
            let problem = format!("the prompt has {size} bytes of text, and at most {limit} are tokenized; {remedy}");
            Err(TextError::Encoding { problem })
        }
        _ => Ok(tokenizer.encode_start(text, adds_special, Keep::All)?.ids),
    };
    match prompt {
        Prompt::Text(text) => encode(text, true),
        Prompt::Messages(messages) => match tokenizer.chat_template() {
            Some(template) => encode(&template.render_with(messages, chat, true)?, false),
            None => Err(TextError::NoTemplate { problem: "the model has none, so the prompt must be text".to_owned() }),
        },
    }
}

/// The ids of a text that continues another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Continuation {
    pub(crate) ids: Vec<u32>,
    /// Of those that are not held.
    pub(crate) left_out: LeftOut,
    /// Whether they follow the ids of the text before when both are encoded as one text. Otherwise a token would reach
    /// across the boundary, and these ids continue another text that ends with a token.
    pub(crate) joins: bool,
}

/// A prompt that responses continue, encoded.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    tokenizer: &'a TextTokenizer,
    text: &'a str,
    start: StartIds,
    adds_special: bool,
    /// The end of `text` that a response is encoded with, and its ids: tokens do not reach across an added token.
    context: (&'a str, Vec<u32>),
}

impl<'a> Opening<'a> {
    /// `adds_special` says that the tokenizer puts its special tokens before this text, which no template has rendered; `keep`
    /// is for the ids of a long one.
    pub(crate) fn new(
        tokenizer: &'a TextTokenizer,
        text: &'a str,
        adds_special: bool,
        keep: Keep,
    ) -> Result<Self, TextError> {
        let start = tokenizer.encode_start(text, adds_special, keep)?;
        let context = context(tokenizer, text, &start)?;
        Ok(Self { tokenizer, text, start, adds_special, context })
    }

    /// The prompt's ids, but for those before them that are not held.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.start.ids
    }

    /// How many ids before them are not held.
    pub(crate) fn num_left_out(&self) -> usize {
        self.start.left_out.count
    }

    /// What stands before a response.
    pub(crate) fn end(&self) -> Before {
        self.ids().last().map_or(Before::Nothing, |id| Before::Token(*id))
    }

    /// Where the prompt's ids, decoded, are not its text.
    pub(crate) fn difference(&self) -> Result<Option<usize>, TextError> {
        self.tokenizer.difference(Before::Nothing, &self.ids()[self.start.num_before..], self.text)
    }

    /// Encodes a text as the prompt's continuation. `keep` is for the ids of a long one.
    pub(crate) fn continuation(&self, text: &str, keep: Keep) -> Result<Continuation, TextError> {
        let (context, ids) = &self.context;
        if let Some((ids, left_out)) = following(self.tokenizer, [context, text], ids, keep)? {
            return Ok(Continuation { ids, left_out, joins: true });
        }
        for boundary in BOUNDARIES {
            let ids = self.tokenizer.encode(boundary, false)?;
            if let Some((ids, left_out)) = following(self.tokenizer, [boundary, text], &ids, keep)? {
                return Ok(Continuation { ids, left_out, joins: false });
            }
        }
        let StartIds { ids, left_out, .. } = self.tokenizer.encode_start(text, false, keep)?;
        Ok(Continuation { ids, left_out, joins: false })
    }

    /// Whether prompt and text, encoded as one text, begin with the prompt's ids and `ids`.
    pub(crate) fn is_joint(&self, text: &str, ids: &[u32]) -> Result<bool, TextError> {
        let joint = self.tokenizer.encode_start(&format!("{}{text}", self.text), self.adds_special, Keep::All)?.ids;
        Ok(joint.strip_prefix(self.ids()) == Some(ids))
    }
}

/// The ids after `before_ids` when both texts are encoded as one; `None` if a token reaches across.
fn following(
    tokenizer: &TextTokenizer,
    texts: [&str; 2],
    before_ids: &[u32],
    keep: Keep,
) -> Result<Option<(Vec<u32>, LeftOut)>, TextError> {
    let keep = match keep {
        Keep::First(count) => Keep::First(count.saturating_add(before_ids.len())),
        keep => keep,
    };
    let joint = tokenizer.encode_start(&texts.concat(), false, keep)?;
    Ok(joint.ids.strip_prefix(before_ids).map(|ids| (ids.to_vec(), joint.left_out)))
}

/// The end of a text that decides how it is continued, with its ids: from its last added token on, and of a long text only
/// the last words.
fn context<'a>(tokenizer: &TextTokenizer, text: &'a str, start: &StartIds) -> Result<(&'a str, Vec<u32>), TextError> {
    let ids = &start.ids[start.num_before..];
    let (mut end, mut end_ids) = (text, ids.to_vec());
    let added = ids.iter().rposition(|id| tokenizer.is_added(*id));
    let token = added.and_then(|index| Some((index, tokenizer.added_text(ids[index])?)));
    if let Some((index, start)) = token.and_then(|(index, token)| Some((index, text.rfind(token)?))) {
        // The same text may stand there without being the token.
        if tokenizer.encode(&text[start..], false)? == ids[index..] {
            (end, end_ids) = (&text[start..], ids[index..].to_vec());
        }
    }
    if end.len() > LONG_CONTEXT {
        let from = end.ceil_char_boundary(end.len() - LONG_CONTEXT / 2);
        if let Some(words) = end[from..].find(char::is_whitespace).map(|at| &end[from + at..]) {
            let words_ids = tokenizer.encode(words, false)?;
            // Where they begin, they may have other tokens than in the whole text.
            let same = words_ids.iter().rev().zip(end_ids.iter().rev()).take_while(|(one, other)| one == other).count();
            if same >= SAME_TOKENS {
                (end, end_ids) = (words, words_ids);
            }
        }
    }
    if start.left_out.count > 0 && end.len() == text.len() {
        let problem = format!(
            "a prompt of {} bytes is too long to encode it again with each response, and its last words by themselves \
             have other tokens; shorten it, or end it with words and spaces",
            text.len()
        );
        return Err(TextError::Encoding { problem });
    }
    Ok((end, end_ids))
}
