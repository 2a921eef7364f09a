//! The types that a recipe's value may have, and how each is read from YAML.

use std::path::PathBuf;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Map;
use serde_yaml_ng::Value;

use crate::schedule::ScheduleKind;

/// A type of a recipe's value.
pub(super) trait KeyType: Sized {
    /// What a value must be, as an error says it.
    const EXPECTED: &'static str;
    /// The value, or `None` where it is something else.
    fn from_yaml(value: &Value) -> Option<Self>;
}

impl KeyType for f64 {
    const EXPECTED: &'static str = "a number";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_f64().filter(|number| number.is_finite())
    }
}

impl KeyType for i64 {
    const EXPECTED: &'static str = "a whole number";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_i64()
    }
}

impl KeyType for u64 {
    const EXPECTED: &'static str = "a whole number of at least 0";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_u64()
    }
}

impl KeyType for usize {
    const EXPECTED: &'static str = "a whole number of at least 0";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_u64().and_then(|number| usize::try_from(number).ok())
    }
}

impl KeyType for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl KeyType for String {
    const EXPECTED: &'static str = "text";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

impl KeyType for PathBuf {
    const EXPECTED: &'static str = "a path";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_str().filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

impl<T: KeyType> KeyType for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn from_yaml(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::from_yaml(value).map(Some) }
    }
}

impl KeyType for ScheduleKind {
    const EXPECTED: &'static str = "cosine, linear, constant or constant_with_warmup";
    fn from_yaml(value: &Value) -> Option<Self> {
        ScheduleKind::from_name(value.as_str()?)
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
}

/// When evaluation happens between the start and the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EvalStrategy {
    /// Never.
    No,
    /// Every `eval_steps` steps.
    Steps,
    /// After each pass over the data.
    Epoch,
}

impl KeyType for EvalStrategy {
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
}

/// An objective's name and its own parameters; the registry of objectives checks both.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectiveSpec {
    /// The objective's name in the registry.
    pub name: String,
    /// The parameters that were given; the objective has defaults for the rest.
    pub params: Map<String, serde_json::Value>,
}

impl ObjectiveSpec {
    /// An objective with its own defaults.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), params: Map::new() }
    }

    /// The parameter of this name as a number, where it was given.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.params.get(name).and_then(serde_json::Value::as_f64)
    }
}

impl Serialize for ObjectiveSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.params.len()))?;
        map.serialize_entry("name", &self.name)?;
        for (name, value) in &self.params {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl KeyType for ObjectiveSpec {
    const EXPECTED: &'static str = "an objective's name, or a table with `name` and its parameters";
    fn from_yaml(value: &Value) -> Option<Self> {
        if let Some(name) = value.as_str() {
            return (!name.is_empty()).then(|| Self::named(name));
        }
        let serde_json::Value::Object(mut params) = to_json(value)? else { return None };
        let name = params.shift_remove("name")?;
        Some(Self { name: name.as_str().filter(|name| !name.is_empty())?.to_owned(), params })
    }
}

/// The same value as JSON; `None` for tags, keys that are not text and numbers that are not finite.
pub(super) fn to_json(value: &Value) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
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
