//! Turns of a conversation as rows of data have them: text, what else a chat template may read, and images.
//!
//! The crate must not know how rows are laid out, tokenizers, chat templates or models. No image is opened here, and none is
//! fetched: [`MessageImage`] only says where it is.

mod images;
mod message;
mod part;
mod problem;

pub use images::{ImageProblem, MessageImage, data_uri, has_images, put_into_prompt, take_out};
pub use message::{Message, SPEAKING_FIELDS, is_blank, is_something};
pub use problem::MessageProblem;
