//! Why text could not become tokens.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a tokenizer or chat template could not be read, or could not be applied to a text.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file of the model's folder could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file of the model's folder is not JSON.
    #[error("{}:{line}:{column}: not valid JSON: {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line of the file, counted from 1.
        line: usize,
        /// Column of the line, counted from 1 in bytes.
        column: usize,
        /// What the parser said.
        message: String,
    },

    /// A file of the model's folder holds something else than it should.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do about it.
        problem: String,
    },

    /// A chat template that cannot be parsed, or that refuses or fails on a conversation.
    #[error("chat template: {problem}")]
    Template {
        /// What the template engine or the template itself says.
        problem: String,
    },

    /// A text that the tokenizer cannot encode, or ids that it cannot decode.
    #[error("tokenizer: {problem}")]
    Encoding {
        /// What the tokenizer says.
        problem: String,
    },

    /// A group that tokenizing leaves without anything to learn from.
    #[error("line {line}: {reason}")]
    Unusable {
        /// Position of the group in the data, by which [`collimate_data::DataFiles`] knows its file.
        index: usize,
        /// Line of the file, counted from 1.
        line: usize,
        /// Why.
        reason: crate::UnusableReason,
    },
}
