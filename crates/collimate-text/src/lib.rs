//! From a prompt and its scored responses as text to token ids.
//!
//! A model's folder brings a tokenizer and, for chat models, a Jinja template. [`TextTokenizer`] reads both.
//! [`tokenize_group`] turns a [`collimate_data::PromptGroup`] into a [`TokenizedGroup`], cut to length, with each response
//! ending in exactly one end token. [`GroupBatch`] lays out several groups as one list of tokens without padding, the
//! form in which the model takes them. Start with these three types.
//!
//! Tokenizers and templates are downloads, and templates are programs: both are read within limits (`SECURITY.md`), and a
//! rendering that would loop or grow without end is an error.
//!
//! This crate does not know how files of data are laid out, nor of tensors, devices, models or objectives.
//!
//! ```
//! use collimate_data::Message;
//! use collimate_text::ChatTemplate;
//!
//! let source = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{{ eos_token }}{% endfor %}\
//!               {% if add_generation_prompt %}<assistant>{% endif %}";
//! let template = ChatTemplate::new(source, [("eos_token".to_owned(), "</s>".to_owned())].into())?;
//! let question = Message::new("user", "What is 7 × 8? ");
//! assert_eq!(template.render(&[question], true)?, "<user>What is 7 × 8?</s><assistant>");
//! # Ok::<(), collimate_text::TextError>(())
//! ```

mod batch;
mod changes;
mod chat;
mod continuation;
mod error;
mod group;
mod model_files;
mod preview;
mod special_tokens;
mod tokenize;
mod tokenizer;
mod unusable;

pub use batch::{GroupBatch, ResponseSpan};
pub use changes::TokenizerChanges;
pub use chat::{ChatDefaults, ChatTemplate};
pub use continuation::encode_prompt;
pub use error::TextError;
pub use group::{GroupLengths, TokenizedGroup, TokenizedResponse};
pub use preview::{preview, text_prompt_note};
pub use tokenize::{
    Found, TextChecks, TokenizeCounts, TokenizeOptions, tokenize_all, tokenize_all_with, tokenize_checked,
    tokenize_group,
};
pub use tokenizer::{ListedToken, TextTokenizer, TurnEnds};
pub use unusable::UnusableReason;
