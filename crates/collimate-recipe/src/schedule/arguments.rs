//! Arguments of schedules: transformers' `lr_scheduler_kwargs`.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use super::kind::ScheduleKind;
use crate::values::KeyType;

/// Arguments of a schedule by their names in transformers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScheduleArguments(BTreeMap<String, Argument>);

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Argument {
    Number(f64),
    Text(String),
}

/// Forms of rise and decay of `warmup_stable_decay`.
pub(super) const CURVES: [&str; 3] = ["linear", "cosine", "1-sqrt"];

impl ScheduleArguments {
    /// A number that was given.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.0.get(name)? {
            Argument::Number(number) => Some(*number),
            Argument::Text(_) => None,
        }
    }

    /// A word that was given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Argument::Text(text) => Some(text),
            Argument::Number(_) => None,
        }
    }

    /// Whether no argument was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong with these arguments for a schedule with this base rate, if anything is.
    pub(crate) fn problem(&self, kind: ScheduleKind, base_lr: f64) -> Option<String> {
        let known = kind.arguments();
        if let Some(name) = self.0.keys().find(|name| !known.contains(&name.as_str())) {
            let takes = if known.is_empty() { "no arguments".to_owned() } else { known.join(", ") };
            return Some(format!("\"{name}\" is no argument of {}, which takes {takes}", kind.name()));
        }
        self.0.iter().find_map(|(name, value)| value.problem(name)).or_else(|| self.missing(kind, base_lr))
    }

    /// An argument without which the schedule has no meaning, or which contradicts another one.
    fn missing(&self, kind: ScheduleKind, base_lr: f64) -> Option<String> {
        let has = |name: &str| self.0.contains_key(name);
        match kind {
            ScheduleKind::CosineWithMinLr | ScheduleKind::CosineWarmupWithMinLr
                if has("min_lr") == has("min_lr_rate") =>
            {
                Some(format!("{} needs one of min_lr and min_lr_rate, as in {{min_lr_rate: 0.1}}", kind.name()))
            }
            ScheduleKind::Polynomial => {
                let end = self.number("lr_end").unwrap_or(POLYNOMIAL_END);
                (base_lr <= end).then(|| format!("lr_end ({end:e}) must be below learning_rate ({base_lr:e})"))
            }
            ScheduleKind::WarmupStableDecay if !has("num_decay_steps") => {
                Some("warmup_stable_decay needs num_decay_steps, as in {num_decay_steps: 100}".to_owned())
            }
            _ => None,
        }
    }
}

/// Rate at which `polynomial` ends unless `lr_end` says otherwise.
pub(super) const POLYNOMIAL_END: f64 = 1e-7;

impl Argument {
    fn problem(&self, name: &str) -> Option<String> {
        match (name, self) {
            ("warmup_type" | "decay_type", Self::Text(text)) if CURVES.contains(&text.as_str()) => None,
            ("warmup_type" | "decay_type", _) => Some(format!("{name} must be {}", CURVES.join(", "))),
            (_, Self::Text(text)) => Some(format!("{name} must be a number, is \"{text}\"")),
            ("timescale", Self::Number(number)) if *number <= 0.0 => {
                Some(format!("{name} must be above 0, is {number}"))
            }
            (_, Self::Number(number)) if *number < 0.0 => Some(format!("{name} must be at least 0, is {number}")),
            _ => None,
        }
    }
}

impl Serialize for ScheduleArguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_empty() { serializer.serialize_none() } else { self.0.serialize(serializer) }
    }
}

impl KeyType for ScheduleArguments {
    const EXPECTED: &'static str = "a table of numbers and words, as {min_lr_rate: 0.1}";
    fn from_yaml(value: &Value) -> Option<Self> {
        let argument = |value: &Value| match value {
            Value::String(text) => Some(Argument::Text(text.clone())),
            value => f64::from_yaml(value).map(Argument::Number),
        };
        match value {
            Value::Null => Some(Self::default()),
            Value::Mapping(entries) => {
                // A null argument has the schedule's default.
                let given = entries.iter().filter(|(_, value)| !value.is_null());
                let pair = |(name, value): (&Value, &Value)| Some((name.as_str()?.to_owned(), argument(value)?));
                given.map(pair).collect::<Option<_>>().map(Self)
            }
            // transformers also reads a table written as JSON.
            Value::String(text) => match serde_yaml_ng::from_str(text).ok()? {
                table @ Value::Mapping(_) => Self::from_yaml(&table),
                _ => None,
            },
            _ => None,
        }
    }

    fn schema() -> Json {
        json!({"type": ["object", "null"], "additionalProperties": {"type": ["number", "string", "null"]}})
    }
}
