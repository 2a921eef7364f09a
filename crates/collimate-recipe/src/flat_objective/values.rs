//! Values of flat keys.

use serde_yaml_ng::Value;

use crate::values::KeyType;

/// A list of numbers.
pub(super) struct Numbers(pub(super) Vec<f64>);

impl KeyType for Numbers {
    const EXPECTED: &'static str = "a list of numbers";
    fn from_yaml(value: &Value) -> Option<Self> {
        let one = |value: &Value| f64::from_yaml(value).map(|number| vec![number]);
        let several = |values: &[Value]| values.iter().map(f64::from_yaml).collect();
        value.as_sequence().map_or_else(|| one(value), |values| several(values)).map(Self)
    }
}

/// One text or several.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Sequence(names) if !names.is_empty() => names.iter().map(String::from_yaml).collect(),
        name => String::from_yaml(name).map(|name| vec![name]),
    }
}

/// Our name for another trainer's `loss_type`, whatever its case.
pub(super) fn our_name(loss_type: &str) -> String {
    match loss_type.to_ascii_lowercase().as_str() {
        "sigmoid" => "dpo".to_owned(),
        "sigmoid_norm" => "dpo_norm".to_owned(),
        // Two ways to compute the loss of TRL's SFT trainer.
        "nll" | "chunked_nll" => "sft".to_owned(),
        // TRL's name for it before 1.0.
        "aot_pair" => "aot".to_owned(),
        // So named by the published trainer.
        "biasednca" => "bco_pair".to_owned(),
        other => other.to_owned(),
    }
}
