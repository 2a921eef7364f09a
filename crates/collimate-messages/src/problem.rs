//! What is wrong with a turn.

use std::fmt;

use serde_json::Value;

/// What is wrong with a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageProblem {
    /// The field, such as `content[1].type`.
    pub field: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: Option<Value>,
}

impl MessageProblem {
    pub(crate) fn new(field: &str, expected: &str, found: Option<&Value>) -> Self {
        Self { field: field.to_owned(), expected: expected.to_owned(), found: found.cloned() }
    }
}

impl fmt::Display for MessageProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            None => write!(f, "missing field `{}`: expected {}", self.field, self.expected),
            Some(_) => write!(f, "field `{}`: expected {}", self.field, self.expected),
        }
    }
}
