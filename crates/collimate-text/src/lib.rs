//! From a prompt and its responses as text to token ids.
//!
//! A model's folder brings a tokenizer and, for chat models, a template. [`TextTokenizer`] reads both, [`tokenize_group`]
//! turns a [`collimate_data::PromptGroup`] into a [`TokenizedGroup`], and [`GroupBatch`] lays several of those out as one
//! list of tokens.
//!
//! Knows nothing of the files that hold the data, nor of tensors, devices, models or objectives.

mod batch;
mod chat;
mod error;
mod group;
mod model_files;
mod preview;
mod tokenize;
mod tokenizer;

pub use batch::{GroupBatch, PackedResponse};
pub use chat::ChatTemplate;
pub use error::TextError;
pub use group::{TokenizedGroup, TokenizedResponse};
pub use preview::preview;
pub use tokenize::{TokenizeCounts, TokenizeOptions, UnusableReason, tokenize_all, tokenize_all_with, tokenize_group};
pub use tokenizer::TextTokenizer;
