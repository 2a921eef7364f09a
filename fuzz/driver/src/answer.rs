//! A parser's answer.

use std::fmt;

/// A parser's answer to an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The input is sound.
    Parsed,
    /// The input is refused with this message.
    Refused(String),
}

/// Converts a result to an answer.
pub(crate) fn answer<T, E: fmt::Display>(result: Result<T, E>) -> Answer {
    match result {
        Ok(_) => Answer::Parsed,
        Err(error) => Answer::Refused(error.to_string()),
    }
}
