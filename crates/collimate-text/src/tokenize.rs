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
mod encoded;
pub(crate) mod images;
mod sampled;
mod size;
mod texts;
mod turn;

use collimate_data::{PromptGroup, Response};
use rayon::prelude::*;

use crate::{TextError, TextTokenizer, TokenizedGroup, TokenizedResponse, UnusableReason};
use checks::check_model;
pub use checks::{Found, TextChecks};
pub use counts::TokenizeCounts;
use encoded::{Encoded, encode_group};
pub use images::open_images;
use images::{WithoutImages, cut, expanded, without_images};

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
    fn most_prompt_tokens(&self) -> usize {
        self.max_prompt_length.map_or(usize::MAX, |most| most.max(1))
    }

    /// Tokens of a response after a prompt of so many; 0 if that leaves no room.
    fn most_response_tokens(&self, prompt_tokens: usize) -> usize {
        let room = self.max_length.map_or(usize::MAX, |most| most.saturating_sub(prompt_tokens));
        room.min(self.max_response_length.map_or(usize::MAX, |most| most.max(1)))
    }

    /// Whether a response is never longer than some tokens.
    fn cuts_responses(&self) -> bool {
        self.max_length.or(self.max_response_length).is_some()
    }

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
    tokenize_within(group, tokenizer, options, tokenizer.max_text_bytes())
}

/// Like [`tokenize_checked`], where a text that the options do not cut may have `limit` bytes.
fn tokenize_within(
    group: &PromptGroup,
    tokenizer: &TextTokenizer,
    options: &TokenizeOptions,
    limit: usize,
) -> Result<(TokenizedGroup, TextChecks), TextError> {
    let unusable = |reason| TextError::Unusable { index: group.index, line: group.line, reason };
    if group.responses.len() < options.min_responses.max(1) {
        let needed = options.min_responses.max(1);
        return Err(unusable(UnusableReason::TooFewResponses { found: group.responses.len(), needed }));
    }
    if let Some(pictures) = tokenizer.pictures() {
        let checks = TextChecks { texts: 1 + group.responses.len(), ..TextChecks::default() };
        return pictures.tokenize(group).map(|tokenized| (tokenized, checks)).map_err(unusable);
    }
    if let Some(response) = group.responses.iter().position(Response::is_blank) {
        return Err(unusable(UnusableReason::EmptyResponse { response }));
    }
    let WithoutImages { group: plain, images } = without_images(group, tokenizer).map_err(unusable)?;
    let encoded = encode_group(&plain, tokenizer, options, limit);
    let Encoded { prompt, responses, mut checks } = encoded.map_err(|error| match error {
        TextError::Chat(error) => unusable(UnusableReason::Template(error)),
        TextError::Turn { problem } => unusable(UnusableReason::Turn { problem }),
        TextError::Encoding { problem } => unusable(UnusableReason::Tokenizer { problem }),
        error => error,
    })?;
    let (mut prompt_ids, images) = expanded(prompt.ids, images, tokenizer).map_err(unusable)?;
    if prompt_ids.is_empty() {
        return Err(unusable(UnusableReason::EmptyPrompt));
    }
    let surplus = prompt_ids.len().saturating_sub(options.most_prompt_tokens());
    prompt_ids.drain(..surplus);
    let images = cut(images, surplus).map_err(unusable)?;
    let num_prompt_cut = prompt.num_left_out + surplus;
    let budget = options.most_response_tokens(prompt_ids.len());
    if budget == 0 {
        let max_length = options.max_length.unwrap_or_default();
        return Err(unusable(UnusableReason::NoRoom { prompt_tokens: prompt_ids.len(), max_length }));
    }
    let mut tokenized = Vec::with_capacity(responses.len());
    for (k, (encoded, response)) in responses.into_iter().zip(&group.responses).enumerate() {
        let mut ids = encoded.ids;
        if ids.len() < 2 && response.token_ids.as_ref() != Some(&ids) {
            return Err(unusable(UnusableReason::EmptyResponse { response: k }));
        }
        let num_cut = encoded.num_left_out + ids.len().saturating_sub(budget);
        ids.truncate(budget);
        tokenized.push(TokenizedResponse { ids, reward: response.reward, num_cut });
    }
    let mut all = std::iter::once(&prompt_ids).chain(tokenized.iter().map(|response| &response.ids));
    if let Some(reason) = all.find_map(|ids| without_embedding(ids, tokenizer)) {
        return Err(unusable(reason));
    }
    let (index, line) = (group.index, group.line);
    let tokenized = TokenizedGroup { index, line, prompt_ids, num_prompt_cut, images, responses: tokenized };
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

#[cfg(test)]
mod images_tests;
#[cfg(test)]
mod long_tests;
#[cfg(test)]
mod rows_tests;
#[cfg(test)]
mod tests;
