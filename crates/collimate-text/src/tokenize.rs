//! Turns a group's text into token ids.
//!
//! | | prompt | response |
//! |---|---|---|
//! | string | encoded with the tokenizer's special tokens | encoded without them, then EOS |
//! | messages | the template with its generation prompt, encoded without further special tokens | what the template adds for the assistant's turn, up to its end-of-turn token; EOS if it has none |
//!
//! Prompt and response are encoded separately. A response ends in exactly one end token, even if its text includes one.
//! Truncation keeps the end of a prompt and the start of a response, which then has no end token.

mod counts;
mod turn;

use collimate_data::{Prompt, PromptGroup, Response};
use rayon::prelude::*;

use crate::{TextError, TextTokenizer, TokenizedGroup, TokenizedResponse, UnusableReason};
pub use counts::TokenizeCounts;
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
            min_responses: 2,
        }
    }
}

/// Tokenizes one group. `skip_unusable` is ignored: an unusable group is an error here.
///
/// # Errors
/// [`TextError::Unusable`] with the group's line and the reason; [`TextError::Template`] if the prompt is a list of
/// messages and the model has no chat template; [`TextError::Encoding`] if the tokenizer fails.
pub fn tokenize_group(
    group: &PromptGroup,
    tokenizer: &TextTokenizer,
    options: &TokenizeOptions,
) -> Result<TokenizedGroup, TextError> {
    let unusable = |reason| TextError::Unusable { index: group.index, line: group.line, reason };
    if group.responses.len() < options.min_responses.max(1) {
        let needed = options.min_responses.max(1);
        return Err(unusable(UnusableReason::TooFewResponses { found: group.responses.len(), needed }));
    }
    if let Some(response) = group.responses.iter().position(Response::is_blank) {
        return Err(unusable(UnusableReason::EmptyResponse { response }));
    }
    let (mut prompt_ids, responses) = encode_group(group, tokenizer).map_err(|error| match error {
        TextError::Template { problem } if tokenizer.chat_template().is_some() => {
            unusable(UnusableReason::Template { problem })
        }
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
        if ids.len() < 2 {
            return Err(unusable(UnusableReason::EmptyResponse { response: k }));
        }
        let num_cut = ids.len().saturating_sub(budget);
        ids.truncate(budget);
        tokenized.push(TokenizedResponse { ids, reward: response.reward, num_cut });
    }
    Ok(TokenizedGroup { index: group.index, line: group.line, prompt_ids, num_prompt_cut, responses: tokenized })
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
        let results: Vec<_> = chunk.par_iter().map(|group| tokenize_group(group, tokenizer, options)).collect();
        for result in results {
            match result {
                Ok(group) => {
                    counts.keep(&group);
                    kept.push(group);
                }
                Err(TextError::Unusable { reason, .. }) if options.skip_unusable => counts.skip(&reason),
                Err(error) => return Err(error),
            }
        }
        advance(chunk.len());
    }
    Ok((kept, counts))
}

/// Ids of the prompt and of each response, with end tokens, before truncation.
fn encode_group(group: &PromptGroup, tokenizer: &TextTokenizer) -> Result<(Vec<u32>, Vec<Vec<u32>>), TextError> {
    let contents = group.responses.iter().map(|response| response.content.as_str());
    match &group.prompt {
        Prompt::Text(text) => {
            let responses =
                contents.map(|content| encode_response(content, false, tokenizer)).collect::<Result<_, _>>()?;
            Ok((tokenizer.encode(text, true)?, responses))
        }
        Prompt::Messages(messages) => {
            let template = tokenizer.chat_template().ok_or_else(|| TextError::Template {
                problem: "the prompt is a list of messages, but the model's folder has no chat_template.jinja and no \
                          \"chat_template\" in tokenizer_config.json"
                    .to_owned(),
            })?;
            let turns = Turns::new(template, messages, &group.chat)?;
            let responses = group
                .responses
                .iter()
                .map(|response| {
                    let (turn, ended) = turns.response(response, tokenizer)?;
                    encode_response(&turn, ended, tokenizer)
                })
                .collect::<Result<_, _>>()?;
            Ok((tokenizer.encode(turns.prompt(), false)?, responses))
        }
    }
}

/// Ids of a response that end in exactly one end token: the text's last token if `ended`, otherwise EOS.
fn encode_response(text: &str, ended: bool, tokenizer: &TextTokenizer) -> Result<Vec<u32>, TextError> {
    let mut ids = tokenizer.encode(text, false)?;
    let end = ids.last().copied().filter(|_| ended).unwrap_or(tokenizer.eos_id());
    while ids.last() == Some(&end) {
        ids.pop();
    }
    ids.push(end);
    Ok(ids)
}

#[cfg(test)]
mod tests;
