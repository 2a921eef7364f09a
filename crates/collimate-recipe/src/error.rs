//! Errors of recipes, with their locations.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde_yaml_ng::Value;
use thiserror::Error;

use crate::values::show;

/// A location in a recipe file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub path: PathBuf,
    /// Line, counted from 1.
    pub line: usize,
    /// Column, counted from 1 in characters.
    pub column: usize,
    /// The bytes that the error is about.
    pub span: Range<usize>,
    /// The whole text, for errors that quote it.
    pub text: Arc<str>,
}

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a recipe file; boxed to keep results small.
    File(Box<Location>),
    /// On the command line, as `key=value`.
    Argument(String),
    /// Nowhere: a default, or a value set by a program.
    Unnamed,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(at) => write!(f, "{}:{}:{}", at.path.display(), at.line, at.column),
            Self::Argument(argument) => write!(f, "argument {argument}"),
            Self::Unnamed => f.write_str("recipe"),
        }
    }
}

/// Why a recipe cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// The file is not YAML, or not a mapping of keys.
    #[error("{origin}: not a recipe: {message}")]
    Syntax {
        /// Its location.
        origin: Origin,
        /// The parser's message.
        message: String,
    },

    /// No key has this name.
    #[error("{origin}: unknown key \"{key}\"{}", hint(nearest))]
    UnknownKey {
        /// Its location.
        origin: Origin,
        /// The key as written.
        key: String,
        /// Known keys with a similar spelling, the nearest first.
        nearest: Vec<String>,
    },

    /// A value has the wrong type.
    #[error("{origin}: key \"{key}\": expected {expected}, found {found}")]
    Type {
        /// Its location.
        origin: Origin,
        /// The key.
        key: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },

    /// A value is out of range, or contradicts another.
    #[error("{origin}: key \"{key}\": {problem}")]
    Value {
        /// Its location.
        origin: Origin,
        /// The key.
        key: String,
        /// What is wrong, and what would be valid.
        problem: String,
    },

    /// A key that has no default is missing.
    #[error("the recipe names no {what}: give `{key}` in the recipe, or {option} on the command line")]
    Missing {
        /// What is missing, in words.
        what: &'static str,
        /// The recipe's key.
        key: &'static str,
        /// The option of the command line.
        option: &'static str,
    },

    /// A file or folder does not exist.
    #[error("{origin}: key \"{key}\": {} does not exist{}", path.display(), tried(also))]
    NoSuchPath {
        /// Its location.
        origin: Origin,
        /// The key.
        key: String,
        /// The path as given.
        path: PathBuf,
        /// The path relative to the recipe, which was also tried.
        also: Option<PathBuf>,
    },

    /// The resolved recipe cannot be written as YAML.
    #[error("the recipe cannot be written as YAML: {message}")]
    Write {
        /// The serializer's message.
        message: String,
    },
}

impl RecipeError {
    /// An error about the type of a value.
    pub(crate) fn of_type(origin: Origin, key: &str, expected: &str, value: &Value) -> Self {
        Self::Type { origin, key: key.to_owned(), expected: expected.to_owned(), found: show(value) }
    }

    /// The error's location, if it has one.
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Syntax { origin, .. }
            | Self::UnknownKey { origin, .. }
            | Self::Type { origin, .. }
            | Self::Value { origin, .. }
            | Self::NoSuchPath { origin, .. } => Some(origin),
            Self::Io { .. } | Self::Missing { .. } | Self::Write { .. } => None,
        }
    }
}

fn hint(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        [one] => format!("; did you mean \"{one}\"?"),
        [head @ .., last] => format!("; did you mean \"{}\" or \"{last}\"?", head.join("\", \"")),
    }
}

fn tried(also: &Option<PathBuf>) -> String {
    also.as_ref().map(|path| format!(" (nor does {})", path.display())).unwrap_or_default()
}
