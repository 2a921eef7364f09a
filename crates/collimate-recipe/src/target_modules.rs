//! The linear layers that get an adapter.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::KeyType;

/// The linear layers that get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetModules(Vec<String>);

impl TargetModules {
    /// Every linear layer of the blocks.
    pub fn all_linear() -> Self {
        Self(vec!["all-linear".to_owned()])
    }

    /// The names of layers, or `all-linear` alone.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether every linear layer gets an adapter.
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
