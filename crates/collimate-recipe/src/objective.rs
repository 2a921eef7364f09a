//! The objective of a run: a name and parameters.

use collimate_objective::registry;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::{KeyType, to_json};

/// An objective's name and parameters; the registry of objectives checks both.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectiveSpec {
    /// The objective's name in the registry.
    pub name: String,
    /// The given parameters; the objective has defaults for the rest.
    pub params: Map<String, Json>,
}

impl ObjectiveSpec {
    /// An objective with its own defaults.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), params: Map::new() }
    }

    /// The reward temperature α, given or the objective's default; `None` if the objective has none.
    pub fn alpha(&self) -> Option<f64> {
        let default = || registry::find(&self.name).ok()?.defaults().get("alpha").and_then(Json::as_f64);
        self.number("alpha").or_else(default)
    }

    /// A given parameter as a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.params.get(name).and_then(Json::as_f64)
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
        let Json::Object(mut params) = to_json(value)? else { return None };
        let name = params.shift_remove("name")?;
        Some(Self { name: name.as_str().filter(|name| !name.is_empty())?.to_owned(), params })
    }

    fn schema() -> Json {
        // `Recipe::schema` replaces this by the objectives of the program.
        json!({"anyOf": [{"type": "string", "minLength": 1}, {"type": "object", "required": ["name"]}]})
    }
}
