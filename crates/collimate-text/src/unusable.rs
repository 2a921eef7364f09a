//! Why a group cannot be trained on.

use collimate_chat::ChatError;
use collimate_data::{counted, either};
use thiserror::Error;

/// What raises the limits on texts.
pub(crate) const MEMORY_REMEDY: &str = "from 1 to 16 GiB of memory_budget the limit grows with it";

/// Why a group cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnusableReason {
    /// The prompt has no tokens, so nothing would predict a response's first token.
    #[error("the prompt is empty after tokenization")]
    EmptyPrompt,
    /// A response is empty, or only whitespace, or only an end token.
    #[error("field \"responses[{response}].content\": the response is empty")]
    EmptyResponse {
        /// Index among the K responses, from 0.
        response: usize,
    },
    /// The group has fewer responses than the options require.
    #[error("{}, at least {needed} {} needed", counted(*found, "response"), either(*needed, "is", "are"))]
    TooFewResponses {
        /// Responses of the group.
        found: usize,
        /// Responses required.
        needed: usize,
    },
    /// The prompt alone fills `max_length`.
    #[error(
        "the prompt has {}, which leaves no room for a response within max_length {max_length}; raise max_length or lower \
         max_prompt_length",
        counted(*prompt_tokens, "token")
    )]
    NoRoom {
        /// Tokens of the prompt after truncation.
        prompt_tokens: usize,
        /// The limit on prompt and response together.
        max_length: usize,
    },
    /// A token of the prompt or of a response has no row in the model's embedding.
    #[error(
        "the model has no embedding for the token {text:?} ({token}): config.json says vocab_size {num_embeddings}"
    )]
    NoEmbedding {
        /// Its id.
        token: u32,
        /// Its text.
        text: String,
        /// Rows of the embedding.
        num_embeddings: usize,
    },
    /// An id of the prompt or of a response is no token, and `config.json` does not say how many the model has.
    #[error("{token} is no token of tokenizer.json, and config.json gives no vocab_size")]
    UnknownToken {
        /// The id.
        token: u32,
    },
    /// A text, as the row has it or as the chat template writes it, is longer than what is tokenized.
    #[error("field \"{field}\": {size} bytes of text or ids, and at most {limit} are tokenized; {MEMORY_REMEDY}")]
    TooLong {
        /// The field.
        field: String,
        /// Its bytes, or its ids.
        size: usize,
        /// The limit on them.
        limit: usize,
    },
    /// The tokenizer cannot encode a text or decode ids.
    #[error("tokenizer: {problem}")]
    Tokenizer {
        /// The tokenizer's message.
        problem: String,
    },
    /// The chat template rejects the conversation or fails on it.
    #[error(transparent)]
    Template(ChatError),
    /// A condition or a picture is none of the model's.
    #[error("field \"{field}\": {problem}")]
    Picture {
        /// Where it is in the row.
        field: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// An image cannot be used where it stands.
    #[error("field \"{field}\": {problem}")]
    Image {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A response has no place in the text that the chat template makes of the conversation.
    #[error("chat template: {problem}")]
    Turn {
        /// What has none, and why.
        problem: String,
    },
}

impl UnusableReason {
    /// A short name of the reason, for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::EmptyPrompt => "empty prompt",
            Self::EmptyResponse { .. } => "empty response",
            Self::TooFewResponses { .. } => "too few responses",
            Self::NoEmbedding { .. } => "a token without an embedding",
            Self::UnknownToken { .. } => "an id that is no token",
            Self::TooLong { .. } => "too long a text",
            Self::Tokenizer { .. } => "refused by the tokenizer",
            Self::NoRoom { .. } => "no room for a response",
            Self::Picture { .. } => "no picture of the model",
            Self::Image { .. } => "an image that cannot be used",
            Self::Template(_) | Self::Turn { .. } => "refused by the chat template",
        }
    }
}
