//! Why a model rejects tokens, or answers nothing.

use collimate_images::ImageError;
use thiserror::Error;

/// Why a store does not keep an input or bring it back.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// Why a model rejects tokens, or answers nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A token id is not in the model's vocabulary.
    #[error("token {token} is outside the model's vocabulary of {vocab_size}: the tokenizer is of another model")]
    TokenOutOfRange {
        /// The token id.
        token: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },

    /// A sequence is so long that the model's rotary scaling would depend on its length, and a prompt's log-probs on the
    /// response after it.
    #[error(
        "a sequence of {length} tokens is longer than the {limit} up to which the model's rotary scaling (dynamic or \
         longrope) is the same for every sequence: set max_length"
    )]
    SequenceTooLong {
        /// Tokens of prompt and response.
        length: usize,
        /// The longest sequence that can be scored.
        limit: usize,
    },

    /// A model of token maps was given something else than a condition and the tokens of a picture.
    #[error(
        "{tokens} tokens after a prompt of {prompt} are no picture after its condition: a picture has {expected} tokens"
    )]
    NoPicture {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the response.
        tokens: usize,
        /// Tokens of a picture.
        expected: usize,
    },

    /// Logits are no numbers, so nothing can be drawn from them.
    #[error("prompt {prompt}: response {response} cannot be drawn: the logits of its token {token} are not finite")]
    LogitsNotFinite {
        /// Index of the prompt among those that were given.
        prompt: usize,
        /// Index of the sample.
        response: usize,
        /// Index of the token in the response.
        token: usize,
    },

    /// The prompts have images, and the model no tower that is computed.
    #[error("the prompt has an image, and the model computes none: qwen2_vl and qwen2_5_vl do")]
    NoTower,

    /// An image cannot be loaded.
    #[error(transparent)]
    Image(#[from] ImageError),

    /// A store does not keep the input of a block, or bring it back.
    #[error("{0}")]
    InputStore(StoreError),
}
