//! Values of keys about rows and their chat template.

use collimate_data::LabelConflicts;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::{KeyType, names, to_json};

/// Variables of a chat template, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct TemplateVariables(Map<String, Json>);

impl TemplateVariables {
    /// The variables, by name.
    pub fn get(&self) -> &Map<String, Json> {
        &self.0
    }
}

impl KeyType for TemplateVariables {
    const EXPECTED: &'static str = "a table of variables, as {enable_thinking: false}";
    fn from_yaml(value: &Value) -> Option<Self> {
        match to_json(value)? {
            Json::Null => Some(Self::default()),
            Json::Object(variables) => Some(Self(variables)),
            // TRL's command line takes them as JSON.
            Json::String(text) => serde_json::from_str(&text).ok().map(Self),
            _ => None,
        }
    }

    fn schema() -> Json {
        json!({"type": ["object", "null", "string"]})
    }
}

/// Names of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FieldNames(Vec<String>);

impl FieldNames {
    /// The names.
    pub fn get(&self) -> &[String] {
        &self.0
    }
}

impl KeyType for FieldNames {
    const EXPECTED: &'static str = "a list of names of fields";
    fn from_yaml(value: &Value) -> Option<Self> {
        names(value).map(Self)
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string", "minLength": 1}}]})
    }
}

impl KeyType for LabelConflicts {
    const EXPECTED: &'static str = "label, scores or drop";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn schema() -> Json {
        json!({"enum": LabelConflicts::ALL.map(LabelConflicts::name)})
    }
}
