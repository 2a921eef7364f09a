//! Turns a group's text into token ids.
//!
//! | | prompt | response |
//! |---|---|---|
//! | string | encoded with the tokenizer's special tokens | its continuation, then EOS |
//! | messages | the template with its generation prompt, encoded without further special tokens | what the template adds for the assistant's turn, up to its end-of-turn token; EOS if it has none |
//!
//! A response is encoded as a continuation of its prompt ([`crate::continuation`]). It ends in exactly one end token, even
//! if its text includes one. Truncation keeps the end of a prompt and the start of a response, which then has no end token.
//! A response with `token_ids` that decode to its text has been sampled: it is these tokens, and has an end only if the
//! sample had one.

mod checks;
mod counts;
mod sampled;
mod size;
mod turn;

use std::borrow::Cow;

use collimate_data::{Prompt, PromptGroup, Response};
use rayon::prelude::*;

use crate::continuation::Opening;
use crate::{TextError, TextTokenizer, TokenizedGroup, TokenizedResponse, UnusableReason};
use checks::{Checker, check_model};
pub use checks::{Found, TextChecks};
pub use counts::TokenizeCounts;
use sampled::Sampled;
use size::Size;
use turn::Turns;

/// Length limits, and what to do with groups that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizeOptions {
    /// Maximum tokens of a prompt and one response together; `None` for no limit.
    pub max_length: Option<usize>,
    /// Maximum tokens of a prompt; a longer one keeps its end. `None` for no limit.
    pub max_prompt_length: Option<usize>,
    /// Maximum tokens of a response with its end token; a longer one keeps its start. `None` for no limit.
    pub max_response_length: Option<usize>,
    /// Skip and count unusable groups instead of failing on the first.
    pub skip_unusable: bool,
    /// Skip and count groups whose prompt leaves no room for a response.
    pub skip_long_prompts: bool,
    /// Minimum number of responses per group: 2 to compare, 1 to score.
    pub min_responses: usize,
}

impl Default for TokenizeOptions {
    fn default() -> Self {
        Self {
            max_length: None,
            max_prompt_length: None,
            max_response_length: None,
            skip_unusable: false,
            skip_long_prompts: false,
            min_responses: 2,
        }
    }
}

impl TokenizeOptions {
    /// Whether a group that is unusable for this reason is skipped.
    pub fn skips(&self, reason: &UnusableReason) -> bool {
        self.skip_unusable || (self.skip_long_prompts && matches!(reason, UnusableReason::NoRoom { .. }))
    }
}

/// Tokenizes one group. `skip_unusable` is ignored: an unusable group is an error here.
///
/// # Errors
/// [`TextError::Unusable`] with the group's line and the reason; [`TextError::NoTemplate`] if the prompt is a list of
/// messages and the model has no chat template.
pub fn tokenize_group(
    group: &PromptGroup,
    tokenizer: &TextTokenizer,
    options: &TokenizeOptions,
) -> Result<TokenizedGroup, TextError> {
    tokenize_checked(group, tokenizer, options).map(|(tokenized, _)| tokenized)
}

/// Like [`tokenize_group`]; also says whether the ids give the group's texts.
///
/// # Errors
/// As [`tokenize_group`].
pub fn tokenize_checked(
    group: &PromptGroup,
    tokenizer: &TextTokenizer,
    options: &TokenizeOptions,
) -> Result<(TokenizedGroup, TextChecks), TextError> {
    let unusable = |reason| TextError::Unusable { index: group.index, line: group.line, reason };
    if group.responses.len() < options.min_responses.max(1) {
        let needed = options.min_responses.max(1);
        return Err(unusable(UnusableReason::TooFewResponses { found: group.responses.len(), needed }));
    }
    if let Some(response) = group.responses.iter().position(Response::is_blank) {
        return Err(unusable(UnusableReason::EmptyResponse { response }));
    }
    let mut size = Size::of_row(group, tokenizer.max_text_bytes()).map_err(unusable)?;
    let encoded = encode_group(group, tokenizer, &mut size);
    let Encoded { mut prompt_ids, responses, mut checks } = encoded.map_err(|error| match error {
        TextError::Chat(error) => unusable(UnusableReason::Template(error)),
        TextError::Turn { problem } => unusable(UnusableReason::Turn { problem }),
        TextError::Encoding { problem } => unusable(UnusableReason::Tokenizer { problem }),
        error => error,
    })?;
    if prompt_ids.is_empty() {
        return Err(unusable(UnusableReason::EmptyPrompt));
    }
    let num_prompt_cut = prompt_ids.len().saturating_sub(options.max_prompt_length.unwrap_or(usize::MAX).max(1));
    prompt_ids.drain(..num_prompt_cut);
    let budget = options.max_length.map_or(usize::MAX, |max_length| max_length.saturating_sub(prompt_ids.len()));
    if budget == 0 {
        let max_length = options.max_length.unwrap_or_default();
        return Err(unusable(UnusableReason::NoRoom { prompt_tokens: prompt_ids.len(), max_length }));
    }
    let budget = budget.min(options.max_response_length.unwrap_or(usize::MAX).max(1));
    let mut tokenized = Vec::with_capacity(responses.len());
    for (k, (mut ids, response)) in responses.into_iter().zip(&group.responses).enumerate() {
        if ids.len() < 2 && response.token_ids.as_ref() != Some(&ids) {
            return Err(unusable(UnusableReason::EmptyResponse { response: k }));
        }
        let num_cut = ids.len().saturating_sub(budget);
        ids.truncate(budget);
        tokenized.push(TokenizedResponse { ids, reward: response.reward, num_cut });
    }
    let mut all = std::iter::once(&prompt_ids).chain(tokenized.iter().map(|response| &response.ids));
    if let Some(reason) = all.find_map(|ids| without_embedding(ids, tokenizer)) {
        return Err(unusable(reason));
    }
    let (index, line) = (group.index, group.line);
    let tokenized = TokenizedGroup { index, line, prompt_ids, num_prompt_cut, responses: tokenized };
    check_model(&tokenized, tokenizer, &mut checks);
    Ok((tokenized, checks))
}

/// Why these ids are no input of the model, if they are not.
fn without_embedding(ids: &[u32], tokenizer: &TextTokenizer) -> Option<UnusableReason> {
    if let Some((token, num_embeddings)) = tokenizer.without_embedding(ids) {
        let text = tokenizer.token_text(token).unwrap_or_default();
        return Some(UnusableReason::NoEmbedding { token, text, num_embeddings });
    }
    tokenizer.unknown(ids).map(|token| UnusableReason::UnknownToken { token })
}

/// Groups tokenized in parallel before their results are checked, in order, for the first error.
const GROUPS_AT_ONCE: usize = 2048;

/// Tokenizes groups on all cores; keeps their order and counts what was truncated and skipped.
///
/// # Errors
/// That of the first group, in input order, that [`tokenize_group`] rejects; with `skip_unusable`, the first that is
/// not [`TextError::Unusable`].
pub fn tokenize_all(
    groups: &[PromptGroup],
    tokenizer: &TextTokenizer,
    options: &TokenizeOptions,
) -> Result<(Vec<TokenizedGroup>, TokenizeCounts), TextError> {
    tokenize_all_with(groups, tokenizer, options, &mut |_| {})
}

/// Like [`tokenize_all`]; calls `advance` with the number of groups finished since the last call.
///
/// # Errors
/// As [`tokenize_all`].
pub fn tokenize_all_with(
    groups: &[PromptGroup],
    tokenizer: &TextTokenizer,
    options: &TokenizeOptions,
    advance: &mut dyn FnMut(usize),
) -> Result<(Vec<TokenizedGroup>, TokenizeCounts), TextError> {
    let mut counts = TokenizeCounts::default();
    let mut kept = Vec::with_capacity(groups.len());
    for chunk in groups.chunks(GROUPS_AT_ONCE) {
        let results: Vec<_> = chunk.par_iter().map(|group| tokenize_checked(group, tokenizer, options)).collect();
        for result in results {
            match result {
                Ok((group, checks)) => {
                    counts.keep(&group, checks);
                    kept.push(group);
                }
                Err(TextError::Unusable { reason, .. }) if options.skips(&reason) => counts.skip(&reason),
                Err(error) => return Err(error),
            }
        }
        advance(chunk.len());
    }
    Ok((kept, counts))
}

/// Ids of a group before truncation.
struct Encoded {
    prompt_ids: Vec<u32>,
    /// With end tokens.
    responses: Vec<Vec<u32>>,
    checks: TextChecks,
}

/// The texts that a group's ids are made of.
struct Texts<'a> {
    prompt: Cow<'a, str>,
    /// Whether the tokenizer puts its special tokens before the prompt.
    adds_special: bool,
    /// What continues the prompt, and whether its last token is the response's end.
    responses: Vec<(Cow<'a, str>, bool)>,
}

fn texts<'a>(
    group: &'a PromptGroup,
    sampled: &[Sampled<'_>],
    tokenizer: &TextTokenizer,
    size: &mut Size,
) -> Result<Texts<'a>, TextError> {
    let mut add = |response, text: &str| {
        let too_long = |reason| TextError::Unusable { index: group.index, line: group.line, reason };
        size.add(response, text).map_err(too_long)
    };
    let contents = group.responses.iter().map(|response| response.content.as_str());
    match &group.prompt {
        Prompt::Text(text) => {
            add(None, text)?;
            contents.clone().enumerate().try_for_each(|(k, content)| add(Some(k), content))?;
            let responses = contents.map(|content| (Cow::Borrowed(content), false)).collect();
            Ok(Texts { prompt: Cow::Borrowed(text), adds_special: true, responses })
        }
        Prompt::Messages(messages) => {
            let template = tokenizer.chat_template().ok_or_else(|| TextError::NoTemplate {
                problem: "the prompt is a list of messages, but the model's folder has no chat_template.jinja and no \
                          \"chat_template\" in tokenizer_config.json"
                    .to_owned(),
            })?;
            let turns = Turns::new(template, messages, &group.chat)?;
            add(None, turns.prompt())?;
            let mut responses = Vec::with_capacity(group.responses.len());
            for (k, (response, sampled)) in group.responses.iter().zip(sampled).enumerate() {
                // A template may refuse what was sampled, or write it differently.
                let turn = match sampled {
                    Sampled::Own(_) => (Cow::Borrowed(response.content.as_str()), true),
                    _ => turns.response(response, tokenizer).map(|(turn, ended)| (Cow::Owned(turn), ended))?,
                };
                add(Some(k), &turn.0)?;
                responses.push(turn);
            }
            Ok(Texts { prompt: Cow::Owned(turns.prompt().to_owned()), adds_special: false, responses })
        }
    }
}

fn encode_group(group: &PromptGroup, tokenizer: &TextTokenizer, size: &mut Size) -> Result<Encoded, TextError> {
    let sampled = group.responses.iter().map(|response| Sampled::new(response, tokenizer));
    let sampled = sampled.collect::<Result<Vec<_>, _>>()?;
    let texts = texts(group, &sampled, tokenizer, size)?;
    let opening = Opening::new(tokenizer, &texts.prompt, texts.adds_special)?;
    let place = (group.index, group.line);
    let checks = TextChecks::default();
    let mut checker = Checker { tokenizer, opening: &opening, prompt: &texts.prompt, place, checks };
    checker.prompt()?;
    let mut responses = Vec::with_capacity(texts.responses.len());
    for (((text, ended), response), sampled) in texts.responses.iter().zip(&group.responses).zip(&sampled) {
        responses.push(match sampled.ids(&response.content, place, &mut checker.checks) {
            Some(ids) => ids.to_vec(),
            None => encode_response(text, *ended, &mut checker)?,
        });
    }
    let checks = checker.checks;
    Ok(Encoded { prompt_ids: opening.ids().to_vec(), responses, checks })
}

/// Ids of a response that end in exactly one end token: the text's last token if `ended`, otherwise EOS.
fn encode_response(text: &str, ended: bool, checker: &mut Checker<'_>) -> Result<Vec<u32>, TextError> {
    let tokenizer = checker.tokenizer;
    let continuation = checker.opening.continuation(text)?;
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
    Ok(ids)
}

#[cfg(test)]
mod rows_tests;
#[cfg(test)]
mod tests;
