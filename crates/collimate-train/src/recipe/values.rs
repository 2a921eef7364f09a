//! The types that a recipe's value may have, and how each is read from YAML.

use std::path::PathBuf;

use collimate_model::ShardSize;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::schedule::ScheduleKind;

/// A type of a recipe's value.
pub(super) trait KeyType: Sized {
    /// What a value must be, as an error says it.
    const EXPECTED: &'static str;
    /// The value, or `None` where it is something else.
    fn from_yaml(value: &Value) -> Option<Self>;
    /// The JSON schema of values; by default anything.
    fn schema() -> Json {
        json!({})
    }
}

impl KeyType for f64 {
    const EXPECTED: &'static str = "a number";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_f64().filter(|number| number.is_finite())
    }

    fn schema() -> Json {
        json!({"type": "number"})
    }
}

impl KeyType for i64 {
    const EXPECTED: &'static str = "a whole number";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_i64()
    }

    fn schema() -> Json {
        json!({"type": "integer"})
    }
}

impl KeyType for u64 {
    const EXPECTED: &'static str = "a whole number of at least 0";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_u64()
    }

    fn schema() -> Json {
        json!({"type": "integer", "minimum": 0})
    }
}

impl KeyType for usize {
    const EXPECTED: &'static str = "a whole number of at least 0";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_u64().and_then(|number| usize::try_from(number).ok())
    }

    fn schema() -> Json {
        json!({"type": "integer", "minimum": 0})
    }
}

impl KeyType for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_bool()
    }

    fn schema() -> Json {
        json!({"type": "boolean"})
    }
}

impl KeyType for String {
    const EXPECTED: &'static str = "text";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn schema() -> Json {
        json!({"type": "string"})
    }
}

impl KeyType for PathBuf {
    const EXPECTED: &'static str = "a path";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_str().filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    fn schema() -> Json {
        json!({"type": "string", "minLength": 1})
    }
}

impl<T: KeyType> KeyType for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn from_yaml(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::from_yaml(value).map(Some) }
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "null"}, T::schema()]})
    }
}

impl KeyType for ShardSize {
    const EXPECTED: &'static str = "a size as 5GB, 500MB or 2GiB";
    fn from_yaml(value: &Value) -> Option<Self> {
        match value.as_u64() {
            Some(bytes) => Self::from_bytes(bytes),
            None => value.as_str()?.parse().ok(),
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "minLength": 1}]})
    }
}

impl KeyType for ScheduleKind {
    const EXPECTED: &'static str = "cosine, linear, constant or constant_with_warmup";
    fn from_yaml(value: &Value) -> Option<Self> {
        ScheduleKind::from_name(value.as_str()?)
    }

    fn schema() -> Json {
        json!({"enum": ["cosine", "linear", "constant", "constant_with_warmup"]})
    }
}

/// What a step does whose loss or gradient is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNonfinite {
    /// The run stops and names the step and the groups.
    Stop,
    /// The step changes no weight, is counted and reported.
    Skip,
}

impl KeyType for OnNonfinite {
    const EXPECTED: &'static str = "stop or skip";
    fn from_yaml(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "stop" => Some(Self::Stop),
            "skip" => Some(Self::Skip),
            _ => None,
        }
    }

    fn schema() -> Json {
        json!({"enum": ["stop", "skip"]})
    }
}

/// When something is done again and again between the start and the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalStrategy {
    /// Never.
    No,
    /// Every so many steps, as another key says.
    Steps,
    /// After each pass over the data.
    Epoch,
}

impl IntervalStrategy {
    /// Whether it is due after so many finished steps; `steps` is the interval, where zero means never.
    pub(super) fn is_due(self, finished_steps: usize, steps: usize, steps_per_epoch: usize) -> bool {
        match self {
            Self::No => false,
            Self::Steps => steps > 0 && finished_steps.is_multiple_of(steps),
            Self::Epoch => finished_steps.is_multiple_of(steps_per_epoch),
        }
    }
}

impl KeyType for IntervalStrategy {
    const EXPECTED: &'static str = "no, steps or epoch";
    fn from_yaml(value: &Value) -> Option<Self> {
        // YAML 1.1 readers take a bare `no` for false; so do we, for recipes that were written by one.
        match (value.as_str(), value.as_bool()) {
            (Some("no"), _) | (_, Some(false)) => Some(Self::No),
            (Some("steps"), _) => Some(Self::Steps),
            (Some("epoch"), _) => Some(Self::Epoch),
            _ => None,
        }
    }

    fn schema() -> Json {
        // Readers of YAML 1.1 take a bare `no` for false.
        json!({"enum": ["no", "steps", "epoch", false]})
    }
}

/// The linear layers that get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetModules(Vec<String>);

impl TargetModules {
    /// Every linear layer of the blocks.
    pub fn all_linear() -> Self {
        Self(vec!["all-linear".to_owned()])
    }

    /// The names of layers, or the one word `all-linear`.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether every linear layer is meant.
    pub fn is_all_linear(&self) -> bool {
        self.0 == ["all-linear"]
    }
}

impl Serialize for TargetModules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_all_linear() { serializer.serialize_str("all-linear") } else { self.0.serialize(serializer) }
    }
}

impl KeyType for TargetModules {
    const EXPECTED: &'static str = "all-linear or a list of one or more layer names";
    fn from_yaml(value: &Value) -> Option<Self> {
        let names: Vec<String> = match value {
            Value::String(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
            Value::Sequence(names) => names.iter().map(String::from_yaml).collect::<Option<_>>()?,
            _ => return None,
        };
        (!names.is_empty() && names.iter().all(|name| !name.is_empty())).then_some(Self(names))
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}}]})
    }
}

/// The same value as JSON; `None` for tags, keys that are not text and numbers that are not finite.
pub(super) fn to_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (_, Some(number), _) => number.into(),
            (_, _, Some(number)) => Json::Number(serde_json::Number::from_f64(number)?),
            _ => return None,
        },
        Value::String(text) => Json::String(text.clone()),
        Value::Sequence(items) => Json::Array(items.iter().map(to_json).collect::<Option<_>>()?),
        Value::Mapping(entries) => {
            let pair = |(key, value): (&Value, &Value)| Some((key.as_str()?.to_owned(), to_json(value)?));
            Json::Object(entries.iter().map(pair).collect::<Option<_>>()?)
        }
        Value::Tagged(_) => return None,
    })
}

/// A value as an error shows it, shortened.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("\"{}\"", text.chars().take(40).collect::<String>()),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(entries) => {
            let keys: Vec<String> = entries.keys().take(4).filter_map(|key| key.as_str().map(str::to_owned)).collect();
            if keys.is_empty() { "a table".to_owned() } else { format!("a table of {}", keys.join(", ")) }
        }
        Value::Tagged(_) => "a tagged value".to_owned(),
    }
}
