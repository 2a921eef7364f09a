//! Errors of chat templates.

use thiserror::Error;

/// Why a chat template cannot be used, or not for a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChatError {
    /// `chat_template` of a configuration is neither a template nor a list of named ones.
    #[error("field \"chat_template\": expected {problem}")]
    Sources {
        /// What was expected and what was found.
        problem: String,
    },

    /// The template cannot be parsed, or it rejects or fails on a conversation.
    #[error("chat template: {problem}")]
    Template {
        /// The message of the template engine, or of the template itself, with the line.
        problem: String,
    },

    /// The conversation is too long to be rendered.
    #[error("chat template: the conversation has {size} bytes with its tools, and at most {limit} are rendered")]
    TooLong {
        /// Its bytes.
        size: usize,
        /// The limit on them.
        limit: usize,
    },

    /// The template ignores something that the conversation has.
    #[error("chat template: it leaves out \"{field}\", which the conversation has")]
    LeftOut {
        /// Tools, calls or reasoning, by the name that the conversation gives them.
        field: String,
    },
}
