//! One line of `metrics.jsonl`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Named figures of one step or evaluation, in the order they were set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MetricsRow(Map<String, Value>);

impl MetricsRow {
    /// Sets a figure; a non-finite one becomes `null`.
    pub fn set(&mut self, name: &str, value: f64) {
        let number = serde_json::Number::from_f64(value);
        self.0.insert(name.to_owned(), number.map_or(Value::Null, Value::Number));
    }

    /// Sets a count.
    pub fn set_count(&mut self, name: &str, count: u64) {
        self.0.insert(name.to_owned(), count.into());
    }

    /// A figure; `None` if it is absent or was not finite.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }

    /// Names of the figures, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The row with `prefix` before every name.
    pub fn prefixed(&self, prefix: &str) -> Self {
        Self(self.0.iter().map(|(name, value)| (format!("{prefix}{name}"), value.clone())).collect())
    }

    /// Adds the figures of another row, replacing those with the same name.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The row as one line of JSON.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}
