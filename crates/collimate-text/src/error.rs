//! Errors of templates, tokenizers and tokenization.

use std::io;
use std::path::PathBuf;

use collimate_chat::ChatError;
use thiserror::Error;

use crate::unusable::UnusableReason;

/// Why a tokenizer or chat template could not be read, or could not be applied to a text.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file of the model's folder could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// A file of the model's folder is not valid JSON.
    #[error("{}:{line}:{column}: not valid JSON: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line of the file, counted from 1.
        line: usize,
        /// Column of the line, counted from 1 in bytes.
        column: usize,
        /// The parser's message.
        message: String,
    },

    /// A file of the model's folder is missing, or its content cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do about it.
        problem: String,
    },

    /// A chat template cannot be parsed, or it rejects or fails on a conversation.
    #[error(transparent)]
    Chat(#[from] ChatError),

    /// A prompt is a list of messages, and the model has no chat template.
    #[error("chat template: {problem}")]
    NoTemplate {
        /// What is missing and what to do about it.
        problem: String,
    },

    /// A response has no place in the text that the chat template makes of the conversation.
    #[error("chat template: {problem}")]
    Turn {
        /// What has none, and why.
        problem: String,
    },

    /// An image of a prompt cannot be used.
    #[error("{problem}")]
    Image {
        /// The field, and what is wrong with it.
        problem: String,
    },

    /// The tokenizer cannot encode a text or decode ids.
    #[error("tokenizer: {problem}")]
    Encoding {
        /// The tokenizer's message.
        problem: String,
    },

    /// A group leaves nothing to train on once it is tokenized.
    #[error("line {line}: {reason}")]
    Unusable {
        /// Index of the group in the data; [`collimate_data::DataFiles`] maps it to a file.
        index: usize,
        /// Line of the file, counted from 1.
        line: usize,
        /// Why it cannot be used.
        reason: UnusableReason,
    },
}
