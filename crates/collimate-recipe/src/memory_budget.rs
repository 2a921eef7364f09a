//! The memory that a run may use.

use serde::{Serialize, Serializer};
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

use crate::values::KeyType;

/// The memory that a run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryBudget {
    /// Three quarters of the device's memory.
    Auto,
    /// A number of bytes.
    Bytes(u64),
}

/// Binary units, as memory is sold and reported, with or without the `i`.
const UNITS: [(&str, u32); 4] = [("k", 10), ("m", 20), ("g", 30), ("t", 40)];

impl MemoryBudget {
    /// The budget in bytes on a device with `device_memory` bytes; `None` if neither is known.
    pub fn bytes(self, device_memory: Option<u64>) -> Option<u64> {
        match self {
            Self::Auto => device_memory.map(|bytes| bytes / 4 * 3),
            Self::Bytes(bytes) => Some(bytes),
        }
    }

    /// Parses `16GiB`, `16 GB`, `16g`, `1.5T` or a number of bytes; units are powers of 1024.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "auto" {
            return Some(Self::Auto);
        }
        let number_end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(number_end);
        let shift = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit) {
            "" => 0,
            unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
        };
        let bytes = number.trim().parse::<f64>().ok()? * 2f64.powi(shift as i32);
        (bytes >= 1.0 && bytes < 2f64.powi(63)).then_some(Self::Bytes(bytes as u64))
    }
}

impl Serialize for MemoryBudget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Bytes(bytes) => serializer.serialize_u64(*bytes),
        }
    }
}

impl KeyType for MemoryBudget {
    const EXPECTED: &'static str = "auto or a size as 16GiB";
    fn from_yaml(value: &Value) -> Option<Self> {
        match value.as_u64() {
            Some(bytes) => (bytes > 0).then_some(Self::Bytes(bytes)),
            None => Self::parse(value.as_str()?),
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "minLength": 1}]})
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("auto", Some(MemoryBudget::Auto))]
    #[case("16GiB", Some(MemoryBudget::Bytes(16 << 30)))]
    #[case("16 GB", Some(MemoryBudget::Bytes(16 << 30)))]
    #[case("1.5g", Some(MemoryBudget::Bytes(3 << 29)))]
    #[case("512M", Some(MemoryBudget::Bytes(512 << 20)))]
    #[case("2TiB", Some(MemoryBudget::Bytes(2 << 40)))]
    #[case("1048576", Some(MemoryBudget::Bytes(1 << 20)))]
    #[case("0", None)]
    #[case("-1GiB", None)]
    #[case("16 parsecs", None)]
    #[case("GiB", None)]
    #[case("[16]", None)]
    fn sizes_are_read_as_people_write_them(#[case] yaml: &str, #[case] expected: Option<MemoryBudget>) {
        let read = |text: &str| MemoryBudget::from_yaml(&serde_yaml_ng::from_str(text).expect("YAML"));
        assert_eq!(read(yaml), expected);
        if let Some(budget) = expected {
            assert_eq!(read(&serde_yaml_ng::to_string(&budget).expect("YAML")), Some(budget), "reads back");
        }
    }

    #[test]
    fn the_default_leaves_a_quarter_to_others() {
        assert_eq!(MemoryBudget::Auto.bytes(Some(64)), Some(48));
        assert_eq!(MemoryBudget::Auto.bytes(None), None);
        assert_eq!(MemoryBudget::Bytes(10).bytes(Some(64)), Some(10));
    }
}
