//! Chat templates: Jinja programs that turn a conversation into the text that a model was trained on.
//!
//! [`ChatTemplate`] renders as transformers' `apply_chat_template` does. [`TemplateSources`] are the templates that a
//! model has, one of them for conversations with tools, and [`ChatDefaults`] what a run adds to every conversation. Start
//! with the first.
//!
//! A template is a program from a download, so it runs within limits (`SECURITY.md`): a rendering that would loop or grow
//! without end is an error.
//!
//! The crate does not know files, tokenizers, tensors or models; `collimate-text` reads a model's folder.
//!
//! ```
//! use collimate_chat::ChatTemplate;
//! use collimate_data::Message;
//!
//! let source = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{{ eos_token }}{% endfor %}\
//!               {% if add_generation_prompt %}<assistant>{% endif %}";
//! let template = ChatTemplate::new(source, [("eos_token".to_owned(), "</s>".to_owned())].into())?;
//! let question = Message::new("user", "What is 7 × 8? ");
//! assert_eq!(template.render(&[question], true)?, "<user>What is 7 × 8?</s><assistant>");
//! # Ok::<(), collimate_chat::ChatError>(())
//! ```

mod budget;
mod builtins;
mod cost;
mod env;
mod error;
mod inputs;
mod json;
mod lexer;
mod memory;
mod operators;
mod printing;
mod source;
mod sources;
mod template;

pub use error::ChatError;
pub use inputs::ChatDefaults;
pub use memory::with_memory;
pub use sources::TemplateSources;
pub use template::ChatTemplate;
