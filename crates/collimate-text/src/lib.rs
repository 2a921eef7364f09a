//! From a prompt and its scored responses as text to token ids.
//!
//! A model's folder brings a tokenizer and, for chat models, a chat template. [`TextTokenizer`] reads both.
//! [`tokenize_group`] turns a [`collimate_data::PromptGroup`] into a [`TokenizedGroup`], cut to length, with each response
//! ending in exactly one end token. [`GroupBatch`] lays out several groups as one list of tokens without padding, the
//! form in which the model takes them. Start with these three types.
//!
//! Tokenizers are downloads, read and applied within limits (`SECURITY.md`); templates run within those of
//! [`collimate_chat`].
//!
//! This crate does not know how files of data are laid out, nor of tensors, devices, models or objectives.
//!
//! ```
//! use collimate_text::{GroupBatch, TokenizedGroup, TokenizedResponse};
//!
//! let response = |ids: &[u32], reward| TokenizedResponse { ids: ids.to_vec(), reward, num_cut: 0 };
//! let responses = vec![response(&[7, 2], 1.0), response(&[8, 9, 2], 0.0)];
//! let group = TokenizedGroup { prompt_ids: vec![3, 4, 5], responses, ..TokenizedGroup::default() };
//! // The prompt's three tokens stand once, before those of both responses.
//! let batch = GroupBatch::shared(&[group]);
//! assert_eq!(batch.tokens, [3, 4, 5, 7, 2, 8, 9, 2]);
//! assert_eq!(batch.positions, [0, 1, 2, 3, 4, 3, 4, 5]);
//! ```

mod batch;
mod changes;
mod continuation;
mod encoded_prompt;
mod error;
mod group;
mod model_files;
mod pictures;
mod placed_image;
mod preview;
mod special_tokens;
mod template_files;
mod tokenize;
mod tokenizer;
mod unusable;

pub use batch::{BatchImage, GroupBatch, ImageRows, ResponseSpan};
pub use changes::TokenizerChanges;
pub use continuation::encode_prompt;
pub use encoded_prompt::EncodedPrompt;
pub use error::TextError;
pub use group::{GroupLengths, TokenizedGroup, TokenizedResponse};
pub use pictures::{PictureTokens, has_tokenizer};
pub use placed_image::{PlacedImage, axes_of_prompt, with_one_token_an_image};
pub use preview::{preview, shown_prompt, text_prompt_note};
pub use template_files::read_chat_template;
pub use tokenize::{
    Found, TextChecks, TokenizeCounts, TokenizeOptions, open_images, tokenize_all, tokenize_all_with, tokenize_checked,
    tokenize_group,
};
pub use tokenizer::{ListedToken, TextTokenizer, TurnEnds};
pub use unusable::UnusableReason;
