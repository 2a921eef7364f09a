//! Errors of preparing and reading a run's groups.

use std::io;
use std::path::PathBuf;

use collimate_data::DataError;
use collimate_files::WriteError;
use collimate_text::TextError;
use thiserror::Error;

/// The groups of a run could not be prepared or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),

    /// The tokenizer or chat template fails on these texts.
    #[error(transparent)]
    Text(#[from] TextError),

    /// Tokens could not be written down.
    #[error(transparent)]
    Write(#[from] WriteError),

    /// A group is unusable once it is tokenized.
    #[error("{}:{line}: {reason}; set skip_unusable to leave such groups out", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Why.
        reason: String,
    },

    /// There is no group to use.
    #[error("{name}: no usable group: every row is empty or was left out")]
    NoGroups {
        /// The files.
        name: String,
    },

    /// There is a system prompt, which only a conversation can begin with.
    #[error("the system prompt is for conversations, but the prompt of {location} is text")]
    TextPrompt {
        /// File and line.
        location: String,
    },

    /// What is held of each group does not fit into memory.
    #[error(
        "{name}: {num_groups} prompts need {} for their order and for how they are divided",
        collimate_progress::format_bytes(*needed)
    )]
    Memory {
        /// The files.
        name: String,
        /// Their groups.
        num_groups: usize,
        /// Bytes.
        needed: u64,
    },

    /// One side of the split would be empty.
    #[error("{name} has too few prompts to hold some out")]
    HoldOut {
        /// The files.
        name: String,
    },

    /// Tokens could not be read back.
    #[error("{}: {source}", path.display())]
    Read {
        /// The store.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// Tokens are not those that were written.
    #[error("{}: {what}: the file was altered or damaged; it is made again when the command is repeated", path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
}
