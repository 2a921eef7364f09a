//! The linear layers that get an adapter.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::KeyType;

/// The linear layers that get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Every linear layer of the blocks.
    AllLinear,
    /// Those that PEFT takes for the model's type if no others are named.
    PeftDefault,
    /// Those whose name, or a part of it after a dot up to its end, is listed.
    Names(Vec<String>),
    /// Those whose whole name matches a regular expression, as in PEFT.
    Pattern(String),
}

const ALL_LINEAR: &str = "all-linear";
const PEFT_DEFAULT: &str = "peft-default";

impl TargetModules {
    /// Whether it is one of the two words.
    fn from_text(text: &str) -> Option<Self> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ',' | ' ');
        match text {
            ALL_LINEAR => Some(Self::AllLinear),
            PEFT_DEFAULT => Some(Self::PeftDefault),
            // In a name a dot is a dot; a pattern has other signs beside it.
            names if names.chars().all(is_name) => {
                Self::from_names(names.split(',').map(|name| name.trim().to_owned()))
            }
            pattern => Some(Self::Pattern(pattern.to_owned())),
        }
    }

    fn from_names(names: impl Iterator<Item = String>) -> Option<Self> {
        let names: Vec<String> = names.collect();
        match names.as_slice() {
            // TRL takes a list of one as the text in it.
            [one] if one == ALL_LINEAR || one == PEFT_DEFAULT || one.contains(['*', '(', '[', '\\', '^', '$', '|']) => {
                Self::from_text(one)
            }
            names => {
                (!names.is_empty() && names.iter().all(|name| !name.is_empty())).then(|| Self::Names(names.to_vec()))
            }
        }
    }
}

impl Serialize for TargetModules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AllLinear => serializer.serialize_str(ALL_LINEAR),
            Self::PeftDefault => serializer.serialize_str(PEFT_DEFAULT),
            Self::Names(names) => names.serialize(serializer),
            Self::Pattern(pattern) => serializer.serialize_str(pattern),
        }
    }
}

impl KeyType for TargetModules {
    const EXPECTED: &'static str =
        "all-linear, peft-default, a list of one or more layer names, or a regular expression of whole names";
    fn from_yaml(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::PeftDefault),
            Value::String(text) => Self::from_text(text),
            Value::Sequence(names) => {
                let names: Vec<String> = names.iter().map(String::from_yaml).collect::<Option<_>>()?;
                Self::from_names(names.into_iter())
            }
            _ => None,
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [
            {"type": "null"},
            {"type": "string", "minLength": 1},
            {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
        ]})
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn names(names: &[&str]) -> Option<TargetModules> {
        Some(TargetModules::Names(names.iter().map(|name| (*name).to_owned()).collect()))
    }

    #[rstest]
    #[case("all-linear", Some(TargetModules::AllLinear))]
    #[case("[all-linear]", Some(TargetModules::AllLinear))]
    #[case("null", Some(TargetModules::PeftDefault))]
    #[case("[q_proj, v_proj]", names(&["q_proj", "v_proj"]))]
    #[case("q_proj, v_proj", names(&["q_proj", "v_proj"]))]
    #[case("[self_attn.q_proj]", names(&["self_attn.q_proj"]))]
    #[case("'.*(q_proj|v_proj)$'", Some(TargetModules::Pattern(".*(q_proj|v_proj)$".to_owned())))]
    #[case(r"['.*\.q_proj']", Some(TargetModules::Pattern(r".*\.q_proj".to_owned())))]
    #[case("[]", None)]
    #[case("['']", None)]
    #[case("3", None)]
    fn layers_are_named_in_four_ways_and_read_back(#[case] yaml: &str, #[case] expected: Option<TargetModules>) {
        let read = |text: &str| TargetModules::from_yaml(&serde_yaml_ng::from_str(text).expect("YAML"));
        assert_eq!(read(yaml), expected);
        if let Some(targets) = expected {
            assert_eq!(read(&serde_yaml_ng::to_string(&targets).expect("YAML")), Some(targets));
        }
    }
}
