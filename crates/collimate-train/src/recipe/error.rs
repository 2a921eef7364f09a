//! What can be wrong with a recipe, and where.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use collimate_hub::HubError;
use thiserror::Error;

/// A place in a recipe file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Line, counted from 1.
    pub line: usize,
    /// Column, counted from 1 in characters.
    pub column: usize,
    /// The bytes of the file that are meant.
    pub span: Range<usize>,
    /// The whole text, so that an error can be shown in its place.
    pub text: Arc<str>,
}

/// Where a recipe's value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a recipe file; boxed, so that results stay small.
    File(Box<Place>),
    /// On the command line, as `key=value`.
    Argument(String),
    /// Nowhere: a default, or a value that was set by a program.
    Unnamed,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(place) => write!(f, "{}:{}:{}", place.path.display(), place.line, place.column),
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
        /// What the system said.
        source: io::Error,
    },

    /// The file is not YAML, or not a table of keys.
    #[error("{origin}: not a recipe: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser said.
        message: String,
    },

    /// No key has this name.
    #[error("{origin}: unknown key \"{key}\"{}", hint(nearest))]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The key as it is spelled.
        key: String,
        /// Known keys that are spelled alike, the nearest first.
        nearest: Vec<String>,
    },

    /// A value has another type than its key.
    #[error("{origin}: key \"{key}\": expected {expected}, found {found}")]
    Type {
        /// Where.
        origin: Origin,
        /// The key.
        key: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A value is outside its range, or contradicts another.
    #[error("{origin}: key \"{key}\": {problem}")]
    Value {
        /// Where.
        origin: Origin,
        /// The key.
        key: String,
        /// What is wrong and what would be right.
        problem: String,
    },

    /// A key without a default was not given.
    #[error("the recipe names no {what}: give `{key}` in the recipe, or {option} on the command line")]
    Missing {
        /// What is missing, in words.
        what: &'static str,
        /// The recipe's key.
        key: &'static str,
        /// The option of the command line.
        option: &'static str,
    },

    /// A file or folder that the recipe names is not there.
    #[error("{origin}: key \"{key}\": {} does not exist{}", path.display(), tried(also))]
    NoSuchPath {
        /// Where.
        origin: Origin,
        /// The key.
        key: String,
        /// The path as given.
        path: PathBuf,
        /// The second place that was looked at, beside the recipe.
        also: Option<PathBuf>,
    },

    /// What the recipe names on the hub cannot be had.
    #[error("{origin}: key \"{key}\": {problem}")]
    Hub {
        /// Where.
        origin: Origin,
        /// The key.
        key: String,
        /// What the hub or its cache lacks, and what to do.
        problem: Box<HubError>,
    },

    /// The resolved recipe cannot be written as YAML.
    #[error("the recipe cannot be written as YAML: {message}")]
    Write {
        /// What the writer said.
        message: String,
    },
}

impl RecipeError {
    /// Where the recipe is wrong, where that is one place.
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Syntax { origin, .. }
            | Self::UnknownKey { origin, .. }
            | Self::Type { origin, .. }
            | Self::Value { origin, .. }
            | Self::Hub { origin, .. }
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
