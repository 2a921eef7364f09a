//! Settings of an adapter beyond rank, scale and targets, as PEFT reads them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::{KeyType, names};

/// Names of modules; empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct ModuleList(pub Vec<String>);

impl KeyType for ModuleList {
    const EXPECTED: &'static str = "a list of names";
    fn from_yaml(value: &Value) -> Option<Self> {
        names(value).map(Self)
    }

    fn schema() -> Json {
        json!({"anyOf": [
            {"type": "null"},
            {"type": "string", "minLength": 1},
            {"type": "array", "items": {"type": "string", "minLength": 1}},
        ]})
    }
}

/// Modules that get no adapter though they are targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExcludedModules {
    /// Those whose name, or a part of it after a dot up to its end, is listed; none if the list is empty.
    Names(Vec<String>),
    /// Those whose whole name matches a regular expression.
    Pattern(String),
}

impl ExcludedModules {
    /// No module.
    pub fn none() -> Self {
        Self::Names(Vec::new())
    }
}

impl Serialize for ExcludedModules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Names(names) => names.serialize(serializer),
            Self::Pattern(pattern) => serializer.serialize_str(pattern),
        }
    }
}

impl KeyType for ExcludedModules {
    const EXPECTED: &'static str = "a list of names, or a regular expression of whole names";
    fn from_yaml(value: &Value) -> Option<Self> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ',' | ' ');
        match value {
            // In a name a dot is a dot; a pattern has other signs beside it.
            Value::String(text) if !text.chars().all(is_name) => Some(Self::Pattern(text.clone())),
            other => ModuleList::from_yaml(other).map(|names| Self::Names(names.0)),
        }
    }

    fn schema() -> Json {
        ModuleList::schema()
    }
}

/// Numbers of layers; empty for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
pub struct LayerList(pub Vec<usize>);

impl KeyType for LayerList {
    const EXPECTED: &'static str = "the number of a layer or a list of them";
    fn from_yaml(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::default()),
            Value::Sequence(layers) => layers.iter().map(usize::from_yaml).collect::<Option<_>>().map(Self),
            one => usize::from_yaml(one).map(|layer| Self(vec![layer])),
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [
            {"type": "null"},
            {"type": "integer", "minimum": 0},
            {"type": "array", "items": {"type": "integer", "minimum": 0}},
        ]})
    }
}

/// Values for the modules that a pattern matches; the first pattern that matches decides.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternValues<T>(pub Vec<(String, T)>);

impl<T> Default for PatternValues<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize> Serialize for PatternValues<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (pattern, value) in &self.0 {
            map.serialize_entry(pattern, value)?;
        }
        map.end()
    }
}

impl<T: KeyType> KeyType for PatternValues<T> {
    const EXPECTED: &'static str = "a table of patterns and numbers";
    fn from_yaml(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self(Vec::new())),
            Value::Mapping(entries) => {
                let pair =
                    |(pattern, value): (&Value, &Value)| Some((pattern.as_str()?.to_owned(), T::from_yaml(value)?));
                entries.iter().map(pair).collect::<Option<_>>().map(Self)
            }
            _ => None,
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "null"}, {"type": "object", "additionalProperties": T::schema()}]})
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn read<T: KeyType + Serialize + PartialEq + std::fmt::Debug>(yaml: &str) -> Option<T> {
        let value = T::from_yaml(&serde_yaml_ng::from_str(yaml).expect("YAML"))?;
        let written = serde_yaml_ng::to_string(&value).expect("YAML");
        let again = T::from_yaml(&serde_yaml_ng::from_str(&written).expect("YAML"));
        assert_eq!(again.as_ref(), Some(&value), "read back from {written}");
        Some(value)
    }

    #[rstest]
    #[case("[q_proj]", Some(ExcludedModules::Names(vec!["q_proj".to_owned()])))]
    #[case("self_attn.q_proj, v_proj", Some(ExcludedModules::Names(vec!["self_attn.q_proj".to_owned(), "v_proj".to_owned()])))]
    #[case(r"'.*\.0\..*'", Some(ExcludedModules::Pattern(r".*\.0\..*".to_owned())))]
    #[case("null", Some(ExcludedModules::none()))]
    #[case("['']", None)]
    fn exceptions_are_names_or_a_pattern(#[case] yaml: &str, #[case] expected: Option<ExcludedModules>) {
        assert_eq!(read(yaml), expected);
    }

    #[rstest]
    #[case("3", Some(LayerList(vec![3])))]
    #[case("[0, 2]", Some(LayerList(vec![0, 2])))]
    #[case("[]", Some(LayerList(vec![])))]
    #[case("[-1]", None)]
    fn layers_are_a_number_or_a_list(#[case] yaml: &str, #[case] expected: Option<LayerList>) {
        assert_eq!(read(yaml), expected);
    }

    #[rstest]
    #[case("{q_proj: 8, '.*': 2}", Some(PatternValues(vec![("q_proj".to_owned(), 8), (".*".to_owned(), 2)])))]
    #[case("null", Some(PatternValues(vec![])))]
    #[case("{q_proj: x}", None)]
    #[case("[8]", None)]
    fn patterns_keep_their_order(#[case] yaml: &str, #[case] expected: Option<PatternValues<usize>>) {
        assert_eq!(read(yaml), expected);
    }
}
