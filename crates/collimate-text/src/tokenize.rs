//! Token rules: from a group's text to its token ids.
//!
//! | | prompt | response |
//! |---|---|---|
//! | string | encoded with the tokenizer's special tokens | encoded without them, then EOS |
//! | messages | the template with its generation prompt, encoded without further special tokens | what the template adds for the assistant's turn, through its end-of-turn token; EOS where it has none |
//!
//! Prompt and response are encoded apart, and the end token stands exactly once, even if the text brings its own.
//! Too long: the prompt keeps its end, every response keeps its start (and then has no end token).

mod turn;

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;
use thiserror::Error;

use crate::{TextError, TextTokenizer, TokenizedGroup, TokenizedResponse};
use collimate_data::{Prompt, PromptGroup};
use turn::Turns;

/// How groups are cut and which are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenizeOptions {
    /// Most tokens of a prompt with one response; none: no limit.
    pub max_length: Option<usize>,
    /// Most tokens of a prompt; a longer one keeps its end; none: no limit of its own.
    pub max_prompt_length: Option<usize>,
    /// Most tokens of a response, its end token included; a longer one keeps its start; none: no limit of its own.
    pub max_response_length: Option<usize>,
    /// Leave out (and count) groups that cannot be used instead of stopping at the first.
    pub skip_unusable: bool,
    /// Fewest responses a group must have: 2 to compare, 1 to score.
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

/// Why a group cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnusableReason {
    /// The prompt has no tokens, so nothing predicts a response's first token.
    #[error("the prompt is empty after tokenization")]
    EmptyPrompt,
    /// A response is empty, only white space, or only an end token.
    #[error("field \"responses[{response}].content\": the response is empty")]
    EmptyResponse {
        /// Which of the K responses, counted from 0.
        response: usize,
    },
    /// Fewer responses than the options ask for.
    #[error("{found} responses, at least {needed} are needed")]
    TooFewResponses {
        /// How many the group has.
        found: usize,
        /// How many it must have.
        needed: usize,
    },
    /// The prompt alone fills `max_length`.
    #[error(
        "the prompt has {prompt_tokens} tokens, which leaves no room for a response within max_length {max_length}; \
         raise max_length or lower max_prompt_length"
    )]
    NoRoom {
        /// Tokens of the prompt, after it was cut.
        prompt_tokens: usize,
        /// The limit.
        max_length: usize,
    },
    /// The chat template refuses the conversation or fails on it.
    #[error("chat template: {problem}")]
    Template {
        /// What the template says.
        problem: String,
    },
}

impl UnusableReason {
    /// The reason in a word or two, as a key to count by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::EmptyPrompt => "empty prompt",
            Self::EmptyResponse { .. } => "empty response",
            Self::TooFewResponses { .. } => "too few responses",
            Self::NoRoom { .. } => "no room for a response",
            Self::Template { .. } => "refused by the chat template",
        }
    }
}

/// What tokenizing a data set kept, cut and left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizeCounts {
    /// Groups kept.
    pub groups: usize,
    /// Responses of the groups kept.
    pub responses: usize,
    /// Prompt tokens kept, each prompt counted once.
    pub prompt_tokens: usize,
    /// Response tokens kept.
    pub response_tokens: usize,
    /// Prompts that lost tokens.
    pub cut_prompts: usize,
    /// Tokens that prompts lost.
    pub cut_prompt_tokens: usize,
    /// Responses that lost tokens.
    pub cut_responses: usize,
    /// Tokens that responses lost.
    pub cut_response_tokens: usize,
    /// Responses whose tokens equal those of an earlier response of their group.
    pub identical_responses: usize,
    /// Groups in which all responses have the same tokens, so that nothing can be learned from comparing them.
    pub identical_groups: usize,
    /// Groups left out, by [`UnusableReason::kind`].
    pub skipped: BTreeMap<&'static str, usize>,
}

impl TokenizeCounts {
    /// Counts one group that is kept.
    pub fn keep(&mut self, group: &TokenizedGroup) {
        self.groups += 1;
        self.responses += group.responses.len();
        self.prompt_tokens += group.prompt_ids.len();
        self.cut_prompts += usize::from(group.num_prompt_cut > 0);
        self.cut_prompt_tokens += group.num_prompt_cut;
        for response in &group.responses {
            self.response_tokens += response.ids.len();
            self.cut_responses += usize::from(response.num_cut > 0);
            self.cut_response_tokens += response.num_cut;
        }
        let distinct: HashSet<&[u32]> = group.responses.iter().map(|response| response.ids.as_slice()).collect();
        self.identical_responses += group.responses.len() - distinct.len();
        self.identical_groups += usize::from(group.responses.len() > 1 && distinct.len() == 1);
    }

    /// Counts one group that is left out.
    pub fn skip(&mut self, reason: &UnusableReason) {
        *self.skipped.entry(reason.kind()).or_default() += 1;
    }

    /// Groups left out, for whatever reason.
    pub fn num_skipped(&self) -> usize {
        self.skipped.values().sum()
    }
}

/// Token ids of one group. Pays no heed to `skip_unusable`: an unusable group is an error here.
///
/// # Errors
/// [`TextError::Unusable`] with the group's line and the reason; [`TextError::Template`] where the prompt is messages
/// and the model has no chat template; [`TextError::Encoding`] where the tokenizer fails.
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
    if let Some(response) = group.responses.iter().position(|response| response.content.trim().is_empty()) {
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

/// Groups that are tokenized together before the first error among them is looked for.
const GROUPS_AT_ONCE: usize = 2048;

/// Token ids of many groups on all cores, in their order, and what was cut and left out.
///
/// # Errors
/// The first group's, in the order given, that [`tokenize_group`] refuses; with `skip_unusable` only what is not
/// [`TextError::Unusable`].
pub fn tokenize_all(
    groups: &[PromptGroup],
    tokenizer: &TextTokenizer,
    options: &TokenizeOptions,
) -> Result<(Vec<TokenizedGroup>, TokenizeCounts), TextError> {
    tokenize_all_with(groups, tokenizer, options, &mut |_| {})
}

/// As [`tokenize_all`]; `advance` hears of so many more groups that are done.
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

/// Ids of the prompt and of each response, end tokens included, nothing cut.
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
            let turns = Turns::new(template, messages)?;
            let responses = contents
                .map(|content| {
                    let (turn, ended) = turns.response(content, tokenizer)?;
                    encode_response(&turn, ended, tokenizer)
                })
                .collect::<Result<_, _>>()?;
            Ok((tokenizer.encode(turns.prompt(), false)?, responses))
        }
    }
}

/// Ids of a response's text with its end token exactly once: the text's last token if it is `ended`, else EOS.
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
