//! A JSON value that knows its path in the row.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{DataError, Message, MessageProblem, Prompt, SkipReason};
use collimate_messages::SPEAKING_FIELDS;

/// An error in a row; its file and line are added later.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RowError {
    /// A field is missing or of the wrong type.
    Field { field: String, expected: String, found: String },
    /// The row contradicts itself or the rest of its file.
    Problem(String),
    /// The row is well-formed but cannot be used.
    Unusable(SkipReason, String),
    /// A response lacks the number that its reward needs.
    NoReward { field: String, expected: String, found: &'static str },
}

/// A response's number, or what is in its place.
pub(crate) type Signal = Result<f64, Absent>;

/// What is in place of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// The field is missing.
    Nothing,
    /// It is null.
    Null,
}

impl Absent {
    /// Its name in messages.
    pub(crate) fn found(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Null => "null",
        }
    }
}

impl RowError {
    /// Why a row or response with this error may be left out; `None` if the row is malformed.
    pub(crate) fn reason(&self) -> Option<SkipReason> {
        match self {
            Self::Unusable(reason, _) => Some(*reason),
            Self::NoReward { .. } => Some(SkipReason::NoReward),
            Self::Field { .. } | Self::Problem(_) => None,
        }
    }

    /// The error with its file and line.
    pub(crate) fn at(self, path: &Path, line: usize) -> DataError {
        let path = path.to_owned();
        match self {
            Self::Field { field, expected, found } => DataError::Field { path, line, field, expected, found },
            Self::NoReward { field, expected, found } => {
                let found = format!("{found}; --skip-unusable leaves such responses out");
                DataError::Field { path, line, field, expected, found }
            }
            Self::Problem(problem) => DataError::Row { path, line, problem },
            Self::Unusable(_, problem) => {
                DataError::Row { path, line, problem: format!("{problem}; --skip-unusable skips such rows") }
            }
        }
    }
}

/// A JSON value and its path in the row, such as `responses[2].reward`.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    pub(crate) value: &'a Value,
    pub(crate) path: String,
}

impl<'a> Node<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// Path of a field of this value.
    pub(crate) fn child_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.get(key)?;
        Some(Node { value, path: self.child_path(key) })
    }

    pub(crate) fn require(&self, key: &str, expected: &str) -> Result<Node<'a>, RowError> {
        self.object()?;
        self.get(key).ok_or_else(|| RowError::Field {
            field: self.child_path(key),
            expected: expected.to_owned(),
            found: "nothing".to_owned(),
        })
    }

    pub(crate) fn object(&self) -> Result<&'a Map<String, Value>, RowError> {
        self.value.as_object().ok_or_else(|| self.error("an object"))
    }

    pub(crate) fn items(&self, expected: &str) -> Result<Vec<Node<'a>>, RowError> {
        let items = self.value.as_array().ok_or_else(|| self.error(expected))?;
        let node = |(i, value)| Node { value, path: format!("{}[{i}]", self.path) };
        Ok(items.iter().enumerate().map(node).collect())
    }

    pub(crate) fn text(&self) -> Result<String, RowError> {
        self.value.as_str().map(str::to_owned).ok_or_else(|| self.error("a string"))
    }

    /// This text as the assistant's turn.
    pub(crate) fn reply_text(&self) -> Result<Message, RowError> {
        Ok(Message::new("assistant", self.text()?))
    }

    pub(crate) fn number(&self) -> Result<f64, RowError> {
        number_of(self.value).ok_or_else(|| self.error("a finite number"))
    }

    /// A field that is there and not null.
    pub(crate) fn given(&self, key: &str) -> Option<Node<'a>> {
        self.get(key).filter(|node| !node.value.is_null())
    }

    /// A number, or what is in its place.
    pub(crate) fn signal(&self, key: &str) -> Result<Signal, RowError> {
        self.get(key).map_or(Ok(Err(Absent::Nothing)), |node| node.as_signal())
    }

    /// This value as a number that may be null.
    pub(crate) fn as_signal(&self) -> Result<Signal, RowError> {
        if self.value.is_null() { Ok(Err(Absent::Null)) } else { self.number().map(Ok) }
    }

    /// A number that may be missing or null.
    pub(crate) fn optional_number(&self, key: &str) -> Result<Option<f64>, RowError> {
        match self.get(key) {
            None => Ok(None),
            Some(node) if node.value.is_null() => Ok(None),
            Some(node) => node.number().map(Some),
        }
    }

    /// A message: `role`, `content`, and what else the chat template may read.
    pub(crate) fn message(&self) -> Result<Message, RowError> {
        self.message_from(self.object()?.clone())
    }

    /// [`Self::message`], of this value's fields under a message's own names.
    pub(crate) fn message_from(&self, fields: Map<String, Value>) -> Result<Message, RowError> {
        Message::try_from(fields).map_err(|MessageProblem { field, expected, found }| RowError::Field {
            field: self.child_path(&field),
            expected,
            found: found.as_ref().map_or_else(|| "nothing".to_owned(), shorten),
        })
    }

    /// An assistant's turn whose text is in a field with one of these names, the first by default; calls and reasoning
    /// may stand beside it.
    pub(crate) fn reply(&self, text_names: &[&str]) -> Result<Message, RowError> {
        let fields = self.object()?;
        let name = text_names.iter().find(|name| fields.contains_key(**name)).unwrap_or(&text_names[0]);
        let mut message = Map::new();
        message.insert("role".to_owned(), Value::from("assistant"));
        let own = [("content", *name)].into_iter().chain(SPEAKING_FIELDS.map(|name| (name, name)));
        message.extend(own.filter_map(|(key, name)| Some((key.to_owned(), fields.get(name)?.clone()))));
        Node { value: &Value::Object(message), path: self.path.clone() }.message().map_err(|error| match error {
            // Names the text as the row does.
            RowError::Field { field, expected, found } => {
                let field = field.replacen(&self.child_path("content"), &self.child_path(name), 1);
                RowError::Field { field, expected, found }
            }
            other => other,
        })
    }

    /// A list of messages.
    pub(crate) fn messages(&self) -> Result<Vec<Message>, RowError> {
        self.items("a list of messages")?.iter().map(Node::message).collect()
    }

    /// A text, or a list of at least one message.
    pub(crate) fn prompt(&self) -> Result<Prompt, RowError> {
        match self.value {
            Value::String(text) => Ok(Prompt::Text(text.clone())),
            Value::Array(_) => {
                let messages = self.messages()?;
                if messages.is_empty() {
                    return Err(self.error("at least one message"));
                }
                Ok(Prompt::Messages(messages))
            }
            _ => Err(self.error("a string or a list of messages")),
        }
    }

    pub(crate) fn error(&self, expected: &str) -> RowError {
        let field = if self.path.is_empty() { "(the row)".to_owned() } else { self.path.clone() };
        RowError::Field { field, expected: expected.to_owned(), found: shorten(self.value) }
    }
}

/// A finite number; true and false count as 1 and 0.
pub(crate) fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        _ => value.as_f64().filter(|number| number.is_finite()),
    }
}

/// Describes a value in at most 60 characters.
pub(crate) fn shorten(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        // What the parser makes of a number that is not finite.
        Value::Object(fields) if fields.keys().eq(["Infinity"]) || fields.keys().eq(["-Infinity"]) => names(fields),
        Value::Object(fields) => format!("an object with {}", names(fields)),
        Value::String(text) => match cut(text) {
            short if short.len() < text.len() => cut(&format!("\"{short}")),
            _ => cut(&value.to_string()),
        },
        _ => cut(&value.to_string()),
    }
}

/// The first 60 characters of a text.
fn cut(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// An object's keys on one line, at most 20 of them.
pub(crate) fn names(fields: &Map<String, Value>) -> String {
    if fields.is_empty() {
        return "no fields".to_owned();
    }
    let mut names: Vec<String> = fields.keys().take(20).map(|name| cut(name)).collect();
    if fields.len() > names.len() {
        names.push("…".to_owned());
    }
    names.join(", ")
}
