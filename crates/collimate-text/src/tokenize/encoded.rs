//! From a group's texts to ids, before they are cut.
//!
//! Of a text beyond the limit that will be cut anyway, only the ids that stay are held, and the others are counted.

use collimate_data::PromptGroup;

use super::TokenizeOptions;
use super::checks::{Checker, TextChecks};
use super::sampled::Sampled;
use super::size::Size;
use super::texts::texts;
use crate::continuation::{Continuation, Opening};
use crate::tokenizer::Keep;
use crate::{TextError, TextTokenizer};

/// The least ids held of a long prompt, so that responses find words to continue.
const LEAST_PROMPT_IDS: usize = 4096;

/// Ids of a group before truncation.
pub(super) struct Encoded {
    pub(super) prompt: EncodedText,
    /// With end tokens.
    pub(super) responses: Vec<EncodedText>,
    pub(super) checks: TextChecks,
}

/// Ids of a text.
pub(super) struct EncodedText {
    pub(super) ids: Vec<u32>,
    /// How many more it has: before these if it is a prompt, after them if it is a response.
    pub(super) num_left_out: usize,
}

impl EncodedText {
    fn whole(ids: Vec<u32>) -> Self {
        Self { ids, num_left_out: 0 }
    }
}

/// Encodes a group; texts of more than `limit` bytes must be cut by the options.
pub(super) fn encode_group(
    group: &PromptGroup,
    tokenizer: &TextTokenizer,
    options: &TokenizeOptions,
    limit: usize,
) -> Result<Encoded, TextError> {
    let unusable = |reason| TextError::Unusable { index: group.index, line: group.line, reason };
    let mut size = Size::of_row(group, limit, options).map_err(unusable)?;
    let sampled = group.responses.iter().map(|response| Sampled::new(response, tokenizer));
    let sampled = sampled.collect::<Result<Vec<_>, _>>()?;
    let texts = texts(group, &sampled, tokenizer, &mut size)?;
    let is_long = |text: &str| text.len() > limit;
    let keep = options.max_prompt_length.filter(|_| is_long(&texts.prompt));
    let keep = keep.map_or(Keep::All, |count| Keep::Last(count.max(LEAST_PROMPT_IDS)));
    let opening = Opening::new(tokenizer, &texts.prompt, texts.adds_special, keep)?;
    let place = (group.index, group.line);
    let checks = TextChecks::default();
    let mut checker = Checker { tokenizer, opening: &opening, prompt: &texts.prompt, place, checks };
    checker.prompt()?;
    let most = options.most_response_tokens(options.most_prompt_tokens().min(opening.ids().len()));
    let mut responses = Vec::with_capacity(texts.responses.len());
    for (((text, ended), response), sampled) in texts.responses.iter().zip(&group.responses).zip(&sampled) {
        let keep = if is_long(text) { Keep::First(most) } else { Keep::All };
        responses.push(match sampled.ids(&response.content, place, &mut checker.checks) {
            Some(ids) => EncodedText::whole(ids.to_vec()),
            None => encode_response(text, *ended, keep, &mut checker)?,
        });
    }
    let checks = checker.checks;
    let prompt = EncodedText { ids: opening.ids().to_vec(), num_left_out: opening.num_left_out() };
    Ok(Encoded { prompt, responses, checks })
}

/// Ids of a response that end in exactly one end token: the text's last token if `ended`, otherwise EOS.
fn encode_response(text: &str, ended: bool, keep: Keep, checker: &mut Checker<'_>) -> Result<EncodedText, TextError> {
    let tokenizer = checker.tokenizer;
    let continuation = checker.opening.continuation(text, keep)?;
    if let (Keep::First(most), true) = (keep, continuation.left_out.count > 0) {
        checker.boundary(text, &continuation);
        return Ok(cut_response(continuation, ended, most, tokenizer.eos_id()));
    }
    let mut ids = continuation.ids.clone();
    let end = ids.last().copied().filter(|_| ended).unwrap_or(tokenizer.eos_id());
    let end_text = tokenizer.token_text(end).unwrap_or_default();
    let mut without_end = text;
    while ids.last() == Some(&end) {
        ids.pop();
        without_end = without_end.strip_suffix(end_text.as_str()).unwrap_or(without_end);
    }
    ids.push(end);
    checker.response(text, &continuation, &ids, &format!("{without_end}{end_text}"))?;
    Ok(EncodedText::whole(ids))
}

/// The first `most` ids of a response of which no more are held, with one end token where that is among them.
fn cut_response(continuation: Continuation, ended: bool, most: usize, eos: u32) -> EncodedText {
    let Continuation { mut ids, left_out, .. } = continuation;
    let end = left_out.last.filter(|_| ended).unwrap_or(eos);
    let num_ends = if left_out.last == Some(end) { left_out.repeats } else { 0 };
    let num_before_end = (ids.len() + left_out.count).saturating_sub(num_ends);
    ids.truncate(num_before_end);
    if num_before_end < most {
        ids.push(end);
    }
    EncodedText { num_left_out: num_before_end + 1 - ids.len(), ids }
}
