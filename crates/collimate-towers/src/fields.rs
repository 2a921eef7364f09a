//! Fields of a `vision_config`.

use serde_json::{Map, Value};
use thiserror::Error;

/// Largest size of anything.
const MOST: u64 = 1 << 20;

/// A field that is not as expected. Whoever knows the file puts it before the message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("field \"vision_config.{field}\": expected {expected}, found {found}")]
pub struct TowerError {
    /// Its name.
    pub field: String,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// The fields of a tower's configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The error for a field that is not as expected.
    pub(crate) fn wrong(self, name: &str, expected: impl Into<String>) -> TowerError {
        let found = self.get(name).map_or_else(|| "nothing".to_owned(), Value::to_string);
        TowerError { field: name.to_owned(), expected: expected.into(), found: found.chars().take(80).collect() }
    }

    /// A size of at least 1.
    pub(crate) fn size(self, name: &str, default: usize) -> Result<usize, TowerError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let size = value.as_u64().filter(|size| (1..=MOST).contains(size));
        size.map(|size| size as usize).ok_or_else(|| self.wrong(name, format!("a whole number from 1 to {MOST}")))
    }

    /// A positive number.
    pub(crate) fn factor(self, name: &str, default: f64) -> Result<f64, TowerError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        let is_right = |number: &f64| number.is_finite() && (1e-3..=1e3).contains(number);
        value.as_f64().filter(is_right).ok_or_else(|| self.wrong(name, "a number from 0.001 to 1000"))
    }

    /// Numbers of blocks.
    pub(crate) fn blocks(self, name: &str, default: &[usize]) -> Result<Vec<usize>, TowerError> {
        let Some(value) = self.get(name) else { return Ok(default.to_vec()) };
        let numbers: Option<Vec<usize>> = value.as_array().and_then(|items| {
            let number = |item: &Value| item.as_u64().filter(|number| *number < MOST).map(|number| number as usize);
            items.iter().map(number).collect()
        });
        numbers
            .filter(|numbers| numbers.len() < MOST as usize)
            .ok_or_else(|| self.wrong(name, "a list of numbers of blocks"))
    }

    /// Refuses any value but this one.
    pub(crate) fn only(self, name: &str, expected: &str) -> Result<(), TowerError> {
        match self.get(name) {
            Some(value) if value.as_str() != Some(expected) => Err(self.wrong(name, format!("\"{expected}\""))),
            _ => Ok(()),
        }
    }
}
