//! Parts of an image-and-text model that full training leaves as they are.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::{KeyType, names};

/// Parts of an image-and-text model that full training leaves as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrozenParts {
    /// The vision tower, with its merger.
    pub visual: bool,
    /// The merger, which makes tokens of the tower's patches.
    pub merger: bool,
}

impl FrozenParts {
    /// Whether there is any.
    pub fn is_any(self) -> bool {
        self.visual || self.merger
    }
}

impl Serialize for FrozenParts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = [("visual", self.visual), ("merger", self.merger)];
        named
            .into_iter()
            .filter_map(|(name, is_frozen)| is_frozen.then_some(name))
            .collect::<Vec<_>>()
            .serialize(serializer)
    }
}

impl KeyType for FrozenParts {
    const EXPECTED: &'static str = "a list of `visual` and `merger`";
    fn from_yaml(value: &Value) -> Option<Self> {
        let mut parts = Self::default();
        for name in names(value)? {
            match name.as_str() {
                "visual" => parts.visual = true,
                "merger" => parts.merger = true,
                _ => return None,
            }
        }
        Some(parts)
    }

    fn schema() -> Json {
        let part = json!({"enum": ["visual", "merger"]});
        json!({"anyOf": [{"type": "null"}, part, {"type": "array", "items": part}]})
    }
}
