//! Reward and preference data, from a file to batches of token ids.
//!
//! ```text
//! file → PromptGroup → TokenizedGroup → GroupBatch
//! ```
//!
//! Knows nothing of tensors, devices, models or objectives.
//!
//! Legend used in every crate: B prompts (groups), K responses of a prompt, T tokens, P prompt tokens,
//! R response tokens, V vocabulary, D width, H heads.

mod batch;
mod chat;
mod error;
mod group;
mod model_files;
mod preview;
mod tokenize;
mod tokenizer;

pub use batch::{GroupBatch, PackedResponse};
pub use error::DataError;
pub use group::{Message, Prompt, PromptGroup, Response, TokenizedGroup, TokenizedResponse};
pub use chat::ChatTemplate;
pub use preview::preview;
pub use tokenize::{TokenizeCounts, TokenizeOptions, UnusableReason, tokenize_all, tokenize_group};
pub use tokenizer::TextTokenizer;
