//! Parts of a content that are images.

use serde_json::{Map, Value};

use crate::problem::MessageProblem;

/// The key of an image in a part of a turn's content.
pub(crate) const IMAGE: &str = "image";
/// What an image may be.
const EXPECTED: &str = "a path, a data URI, or an object with \"bytes\" or \"path\"";

/// Whether a part of a turn's content is an image.
pub(crate) fn is_image(part: &Map<String, Value>) -> bool {
    part.get("type").and_then(Value::as_str) == Some(IMAGE)
}

/// Checks a part that is an image; one without a value is filled from a list beside the conversation.
pub(crate) fn check_image(part: &Map<String, Value>, field: &dyn Fn(&str) -> String) -> Result<(), MessageProblem> {
    let more = |(name, value): &(&String, &Value)| !matches!(name.as_str(), "type" | IMAGE) && !is_empty(value);
    if let Some((name, value)) = part.iter().find(more) {
        return Err(MessageProblem::new(&field(name), "nothing beside \"type\" and \"image\"", Some(value)));
    }
    match part.get(IMAGE) {
        Some(value) if !is_empty(value) => {
            text_of(value).map(|_| ()).map_err(|expected| MessageProblem::new(&field(IMAGE), expected, Some(value)))
        }
        _ => Ok(()),
    }
}

/// Whether a part's field says nothing: files with columns have a text, empty or null, for every part.
pub(crate) fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

/// An image's value as text: a path or a data URI.
pub(crate) fn text_of(value: &Value) -> Result<&str, &'static str> {
    let text = match value {
        Value::String(text) => Some(text.as_str()),
        Value::Object(fields) => {
            let given = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            given("bytes").or_else(|| given("path"))
        }
        _ => None,
    };
    let text = text.filter(|text| !text.is_empty()).ok_or(EXPECTED)?;
    let is_remote = text.split_once("://").is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_alphanumeric()));
    if is_remote { Err("a path or a data URI, since no address is fetched") } else { Ok(text) }
}
