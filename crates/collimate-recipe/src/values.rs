//! The types of a recipe's values, and how each is read from YAML.

use std::path::PathBuf;

use collimate_files::ShardSize;
use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;

/// The type of a recipe key's value.
pub(crate) trait KeyType: Sized {
    /// What a value must be, as errors put it.
    const EXPECTED: &'static str;
    /// Reads a value; `None` if it has another type.
    fn from_yaml(value: &Value) -> Option<Self>;
    /// The JSON schema of values; by default anything.
    fn schema() -> Json {
        json!({})
    }
}

impl KeyType for f64 {
    const EXPECTED: &'static str = "a number";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_f64().filter(|number| number.is_finite())
    }

    fn schema() -> Json {
        json!({"type": "number"})
    }
}

impl KeyType for i64 {
    const EXPECTED: &'static str = "a whole number";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_i64()
    }

    fn schema() -> Json {
        json!({"type": "integer"})
    }
}

impl KeyType for u64 {
    const EXPECTED: &'static str = "a whole number of at least 0";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_u64()
    }

    fn schema() -> Json {
        json!({"type": "integer", "minimum": 0})
    }
}

impl KeyType for usize {
    const EXPECTED: &'static str = "a whole number of at least 0";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_u64().and_then(|number| usize::try_from(number).ok())
    }

    fn schema() -> Json {
        json!({"type": "integer", "minimum": 0})
    }
}

impl KeyType for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_bool()
    }

    fn schema() -> Json {
        json!({"type": "boolean"})
    }
}

impl KeyType for String {
    const EXPECTED: &'static str = "text";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn schema() -> Json {
        json!({"type": "string"})
    }
}

impl KeyType for PathBuf {
    const EXPECTED: &'static str = "a path";
    fn from_yaml(value: &Value) -> Option<Self> {
        value.as_str().filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    fn schema() -> Json {
        json!({"type": "string", "minLength": 1})
    }
}

impl<T: KeyType> KeyType for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    fn from_yaml(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::from_yaml(value).map(Some) }
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "null"}, T::schema()]})
    }
}

impl KeyType for ShardSize {
    const EXPECTED: &'static str = "a size as 5GB, 500MB or 2GiB";
    fn from_yaml(value: &Value) -> Option<Self> {
        match value.as_u64() {
            Some(bytes) => Self::from_bytes(bytes),
            None => value.as_str()?.parse().ok(),
        }
    }

    fn schema() -> Json {
        json!({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "minLength": 1}]})
    }
}

/// Converts a value to JSON; `None` for tags, keys that are not text and numbers that are not finite.
pub(crate) fn to_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => number.into(),
            (_, Some(number), _) => number.into(),
            (_, _, Some(number)) => Json::Number(serde_json::Number::from_f64(number)?),
            _ => return None,
        },
        Value::String(text) => Json::String(text.clone()),
        Value::Sequence(items) => Json::Array(items.iter().map(to_json).collect::<Option<_>>()?),
        Value::Mapping(entries) => {
            let pair = |(key, value): (&Value, &Value)| Some((key.as_str()?.to_owned(), to_json(value)?));
            Json::Object(entries.iter().map(pair).collect::<Option<_>>()?)
        }
        Value::Tagged(_) => return None,
    })
}

/// A value for error messages, shortened.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("\"{}\"", text.chars().take(40).collect::<String>()),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(entries) => {
            let keys: Vec<String> = entries.keys().take(4).filter_map(|key| key.as_str().map(str::to_owned)).collect();
            if keys.is_empty() { "a table".to_owned() } else { format!("a table of {}", keys.join(", ")) }
        }
        Value::Tagged(_) => "a tagged value".to_owned(),
    }
}

/// A list of names, as a list or with commas between; null is none. No name is empty.
pub(crate) fn names(value: &Value) -> Option<Vec<String>> {
    let names: Vec<String> = match value {
        Value::Null => Vec::new(),
        Value::String(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
        Value::Sequence(names) => names.iter().map(String::from_yaml).collect::<Option<_>>()?,
        _ => return None,
    };
    names.iter().all(|name| !name.is_empty()).then_some(names)
}
