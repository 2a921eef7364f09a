//! JSON parsing that refuses duplicate keys, of which serde_json silently keeps the last.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses a row. Python writes NaN and infinities, which JSON does not have: NaN becomes null, as data frames mean it, and an
/// infinity the text of its name in an object, which nothing reads as a number or a text.
pub(super) fn parse(line: &[u8]) -> Result<Value, serde_json::Error> {
    let parsed = serde_json::from_slice::<Strict>(line);
    let strict = match parsed {
        Err(error) => match without_non_numbers(line) {
            Some(line) => serde_json::from_slice::<Strict>(&line).map_err(|_| error)?,
            None => return Err(error),
        },
        Ok(strict) => strict,
    };
    Ok(strict.0)
}

/// Python's names of numbers that are not finite, and what they become.
const NON_NUMBERS: [(&[u8], &[u8]); 3] =
    [(b"NaN", b"null"), (b"-Infinity", br#"{"-Infinity":null}"#), (b"Infinity", br#"{"Infinity":null}"#)];

/// The line with [`NON_NUMBERS`] replaced outside strings; `None` if it has none.
fn without_non_numbers(line: &[u8]) -> Option<Vec<u8>> {
    let mut replaced = Vec::with_capacity(line.len());
    let (mut position, mut in_string, mut found) = (0, false, false);
    while let Some(byte) = line.get(position) {
        let token = NON_NUMBERS.iter().find(|(name, _)| !in_string && line[position..].starts_with(name));
        if let Some((name, value)) = token {
            replaced.extend_from_slice(value);
            position += name.len();
            found = true;
            continue;
        }
        let is_escaped = in_string && *byte == b'\\';
        in_string ^= *byte == b'"';
        replaced.push(*byte);
        position += 1;
        if is_escaped && let Some(next) = line.get(position) {
            replaced.push(*next);
            position += 1;
        }
    }
    found.then_some(replaced)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key \"{key}\" is given twice")));
            }
            let Strict(value) = fields.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_serde_json() {
        let text = r#"{"a": [1, -2, 0.5, null, true, "x\u00e9"], "b": {"a": {}}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn numbers_that_are_not_finite_are_no_numbers() {
        let row = parse(br#"{"a": NaN, "b": [NaN, -Infinity], "c": "NaN \" Infinity", "d": Infinity}"#).unwrap();
        let expected =
            r#"{"a": null, "b": [null, {"-Infinity": null}], "c": "NaN \" Infinity", "d": {"Infinity": null}}"#;
        assert_eq!(row, serde_json::from_str::<Value>(expected).unwrap());
        // The first error is reported, not the one after the replacement.
        let error = parse(br#"{"a": NaN, "b": }"#).unwrap_err();
        assert_eq!(error.column(), 7, "{error}");
    }

    #[test]
    fn a_duplicate_key_is_refused_at_any_depth() {
        let message = parse(br#"{"a": [{"reward": 1, "reward": 2}]}"#).unwrap_err().to_string();
        assert!(message.contains("the key \"reward\" is given twice"), "{message}");
    }
}
