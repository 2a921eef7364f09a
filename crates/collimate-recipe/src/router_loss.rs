//! The weight of the router's balance loss.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::KeyType;

/// The weight of the router's balance loss for mixtures of experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RouterLoss {
    /// The model's own weight if its configuration sets `output_router_logits`, else none.
    IfConfigured,
    /// The model's own weight, as in TRL.
    Model,
    /// This weight; zero disables the loss.
    Weight(f64),
}

impl RouterLoss {
    /// The weight for a model whose configuration declares `declared`, and sets `output_router_logits` or not.
    pub fn weight(self, declared: f64, is_configured: bool) -> f64 {
        match self {
            Self::IfConfigured if !is_configured => 0.0,
            Self::IfConfigured | Self::Model => declared,
            Self::Weight(weight) => weight,
        }
    }
}

impl Serialize for RouterLoss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::IfConfigured => serializer.serialize_none(),
            Self::Model => serializer.serialize_str("model"),
            Self::Weight(weight) => serializer.serialize_f64(*weight),
        }
    }
}

impl KeyType for RouterLoss {
    const EXPECTED: &'static str = "a number, model or null";
    fn from_yaml(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::IfConfigured),
            Value::String(word) => (word == "model").then_some(Self::Model),
            number => f64::from_yaml(number).map(Self::Weight),
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "null"}, {"const": "model"}, {"type": "number", "minimum": 0}]})
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("null", 0.0, 0.02)]
    #[case("model", 0.02, 0.02)]
    #[case("0.5", 0.5, 0.5)]
    #[case("0", 0.0, 0.0)]
    fn the_weight_is_the_models_or_the_recipes(#[case] yaml: &str, #[case] without: f64, #[case] configured: f64) {
        let read = |text: &str| RouterLoss::from_yaml(&serde_yaml_ng::from_str(text).expect("YAML"));
        let loss = read(yaml).expect("a weight");
        assert_eq!((loss.weight(0.02, false), loss.weight(0.02, true)), (without, configured));
        assert_eq!(read(&serde_yaml_ng::to_string(&loss).expect("YAML")), Some(loss));
        assert_eq!(read("much"), None);
    }
}
