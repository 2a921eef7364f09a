//! Typed access to the fields of a JSON object, with errors that name file and field.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::HfError;

/// The largest size of a field. Larger ones are typing errors; products of two sizes fit 64 bits.
const LARGEST_SIZE: u64 = i32::MAX as u64;

/// An object of a configuration file, and its path within the file.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    path: &'a Path,
    /// The object that this one is nested in, if that is not the file's top level.
    outer: &'a str,
    prefix: &'a str,
    object: &'a Map<String, Value>,
    /// The names of fields that somebody has asked for, if they are wanted.
    asked: Option<&'a Asked>,
}

/// Names of fields.
pub(crate) type Asked = RefCell<BTreeSet<String>>;

impl<'a> Fields<'a> {
    /// Fields of the file's top level.
    pub fn top(path: &'a Path, value: &'a Value) -> Result<Self, HfError> {
        match value {
            Value::Object(object) => Ok(Self { path, outer: "", prefix: "", object, asked: None }),
            other => Err(HfError::Field {
                path: path.to_owned(),
                field: "(whole file)".to_owned(),
                expected: "an object".to_owned(),
                found: shown(other),
            }),
        }
    }

    /// The object in a field; `None` if it is absent, null or empty.
    pub(crate) fn object(&self, key: &'a str) -> Result<Option<Fields<'a>>, HfError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) if object.is_empty() => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields { prefix: key, object, ..*self })),
            Some(_) => Err(self.wrong(key, "an object or null")),
        }
    }

    /// The object in a field, as the one whose own objects are nested in it.
    pub(crate) fn nested(&self, key: &'a str) -> Result<Option<Fields<'a>>, HfError> {
        Ok(self.object(key)?.map(|fields| Fields { outer: key, prefix: "", ..fields }))
    }

    /// The same fields, under another path in errors.
    pub(crate) fn called(self, prefix: &'a str) -> Self {
        Self { prefix, ..self }
    }

    /// The same fields, whose names go to `asked` when somebody asks for them.
    pub(crate) fn noting(self, asked: &'a Asked) -> Self {
        Self { asked: Some(asked), ..self }
    }

    /// A field's value; `None` if it is absent or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        if let Some(asked) = self.asked {
            asked.borrow_mut().insert(key.to_owned());
        }
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// The first field if it is set, otherwise the second.
    pub(crate) fn first_of(&self, [first, second]: [&'static str; 2]) -> &'static str {
        if self.get(first).is_some() { first } else { second }
    }

    /// Whether a field is null rather than absent.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.object.get(key).is_some_and(Value::is_null)
    }

    /// The file.
    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    /// The names of all fields.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.object.keys().map(String::as_str)
    }

    /// An integer of at least 1; `None` if it is absent or null.
    pub fn size(&self, key: &str) -> Result<Option<usize>, HfError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=LARGEST_SIZE).contains(&size) => Ok(Some(size as usize)),
            _ => Err(self.wrong(key, &format!("a whole number from 1 to {LARGEST_SIZE}"))),
        }
    }

    /// A size; `default` if the field is absent. Null is rejected.
    pub(crate) fn size_or(&self, key: &str, default: usize) -> Result<usize, HfError> {
        if self.is_null(key) {
            return Err(self.wrong(key, "a whole number"));
        }
        Ok(self.size(key)?.unwrap_or(default))
    }

    /// A finite number that `accept` accepts; `None` if it is absent or null.
    pub fn number(&self, key: &str, expected: &str, accept: fn(f64) -> bool) -> Result<Option<f64>, HfError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() && accept(number) => Ok(Some(number)),
            _ => Err(self.wrong(key, expected)),
        }
    }

    /// A number greater than 0; `None` if it is absent or null.
    pub fn positive(&self, key: &str) -> Result<Option<f64>, HfError> {
        self.number(key, "a number greater than 0", |x| x > 0.0)
    }

    /// An integer of at least 0; `default` if it is absent or null.
    pub(crate) fn count_or(&self, key: &str, default: usize) -> Result<usize, HfError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.wrong(key, "a whole number"))
    }

    /// A moderate factor, safe for multiplication and division in float32; `None` if it is absent or null.
    pub(crate) fn factor(&self, key: &str) -> Result<Option<f64>, HfError> {
        self.number(key, "a number from 0.001 to 1000000", |x| (1e-3..=1e6).contains(&x))
    }

    /// A list of `len` such factors; `None` if it is absent or null.
    pub(crate) fn factors(&self, key: &str, len: usize) -> Result<Option<Vec<f64>>, HfError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = |value: &Value| value.as_f64().filter(|x| (1e-3..=1e6).contains(x));
        let numbers: Option<Vec<f64>> = value.as_array().and_then(|list| list.iter().map(number).collect());
        match numbers {
            Some(numbers) if numbers.len() == len => Ok(Some(numbers)),
            _ => Err(self.wrong(key, &format!("a list of {len} numbers from 0.001 to 1000000"))),
        }
    }

    /// A flag, `default` if it is absent or null.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, HfError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A string; `None` if it is absent or null.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, HfError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    /// A list of strings; `None` if it is absent or null.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, HfError> {
        let expected = "a list of strings";
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.as_array().ok_or_else(|| self.wrong(key, expected))?;
        let texts: Option<Vec<_>> = list.iter().map(Value::as_str).collect();
        texts.map(Some).ok_or_else(|| self.wrong(key, expected))
    }

    /// A list of integers of at least 0; `None` if it is absent or null.
    pub(crate) fn counts(&self, key: &str) -> Result<Option<Vec<usize>>, HfError> {
        let expected = "a list of whole numbers";
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.as_array().ok_or_else(|| self.wrong(key, expected))?;
        let count = |value: &Value| value.as_u64().and_then(|count| usize::try_from(count).ok());
        let counts: Option<Vec<_>> = list.iter().map(count).collect();
        counts.map(Some).ok_or_else(|| self.wrong(key, expected))
    }

    /// A token id or a list of them; empty if it is absent or null.
    pub(crate) fn token_ids(&self, key: &str) -> Result<Vec<u32>, HfError> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = match self.get(key) {
            None => Some(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(id).collect(),
            Some(value) => id(value).map(|id| vec![id]),
        };
        ids.ok_or_else(|| self.wrong(key, "a token id or a list of token ids"))
    }

    /// The same, with a default where the file is silent; null is none.
    pub(crate) fn token_ids_or(&self, key: &str, default: Option<u32>) -> Result<Vec<u32>, HfError> {
        let ids = self.token_ids(key)?;
        let is_silent = self.get(key).is_none() && !self.is_null(key);
        Ok(if is_silent { default.into_iter().collect() } else { ids })
    }

    /// The error for a field with an invalid value.
    pub fn wrong(&self, key: &str, expected: &str) -> HfError {
        HfError::Field {
            path: self.path.to_owned(),
            field: self.name(key),
            expected: expected.to_owned(),
            found: self.found(key),
        }
    }

    /// The error for a field that asks for something unsupported.
    pub fn unsupported(&self, key: &str, remedy: &str) -> HfError {
        HfError::Unsupported {
            path: self.path.to_owned(),
            field: self.name(key),
            found: self.found(key),
            remedy: remedy.to_owned(),
        }
    }

    fn name(&self, key: &str) -> String {
        let parts = [self.outer, self.prefix, key];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }

    fn found(&self, key: &str) -> String {
        self.object.get(key).map_or_else(|| "nothing".to_owned(), shown)
    }
}

/// A value as JSON, truncated.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
