//! How far figures of an evaluation may move.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::KeyType;

/// What stands before the figures of an evaluation in its row.
const PREFIX: &str = "eval_";

/// How far figures of an evaluation may move from their first values, by their names in an evaluation's row: a negative limit
/// is a fall, a positive one a rise.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FigureLimits(pub Vec<(String, f64)>);

impl Serialize for FigureLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (figure, limit) in &self.0 {
            map.serialize_entry(figure, limit)?;
        }
        map.end()
    }
}

impl KeyType for FigureLimits {
    const EXPECTED: &'static str = "a table of figures and numbers other than 0, as {log_ratios/chosen: -5}";
    fn from_yaml(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::default()),
            Value::Mapping(entries) => {
                let limit = |value: &Value| f64::from_yaml(value).filter(|limit| *limit != 0.0);
                let pair = |(name, value): (&Value, &Value)| Some((in_row(name.as_str()?), limit(value)?));
                entries.iter().map(pair).collect::<Option<_>>().map(Self)
            }
            _ => None,
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "null"}, {"type": "object", "additionalProperties": {"type": "number"}}]})
    }
}

/// A figure's name in the row of an evaluation.
pub(crate) fn in_row(name: &str) -> String {
    format!("{PREFIX}{}", name.strip_prefix(PREFIX).unwrap_or(name))
}
