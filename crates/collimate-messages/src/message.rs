//! One turn of a conversation, with everything that a chat template may read of it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::part::{check_image, is_image};
use crate::problem::MessageProblem;

/// One turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Message {
    /// The speaker: `system`, `user`, `assistant`, or another role the chat template knows.
    pub role: String,
    /// The text. Of content in parts it is their texts, one after the other; empty if there is no content.
    pub content: String,
    /// What else the row says of the turn, for the chat template: `tool_calls`, `reasoning_content` and the like, and
    /// `content` itself if it is not a string or stands after other fields, since a template may print a turn as it is.
    pub fields: Map<String, Value>,
}

impl Message {
    /// A turn that is only text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), fields: Map::new() }
    }

    /// Whether it says nothing: no text, and no call or reasoning instead.
    pub fn is_blank(&self) -> bool {
        is_blank(&self.content, &self.fields)
    }

    /// The turn as a row holds it.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut json = Map::new();
        json.insert("role".to_owned(), self.role.as_str().into());
        if !self.fields.contains_key("content") {
            json.insert("content".to_owned(), self.content.as_str().into());
        }
        json.extend(self.fields.clone());
        if let Some(Value::String(text)) = json.get_mut("content") {
            text.clone_from(&self.content);
        }
        json
    }
}

/// Whether an assistant's turn with this text and these fields says nothing.
pub fn is_blank(content: &str, fields: &Map<String, Value>) -> bool {
    content.trim().is_empty() && !SPEAKING_FIELDS.iter().any(|name| fields.get(*name).is_some_and(is_something))
}

impl From<Message> for Map<String, Value> {
    fn from(message: Message) -> Self {
        message.to_json()
    }
}

impl TryFrom<Map<String, Value>> for Message {
    type Error = MessageProblem;

    fn try_from(mut json: Map<String, Value>) -> Result<Self, MessageProblem> {
        let Some(Value::String(role)) = json.get("role") else {
            return Err(MessageProblem::new("role", "a string", json.get("role")));
        };
        let role = role.clone();
        json.shift_remove("role");
        if let Some((name, why)) = REFUSED.iter().find(|(name, _)| json.get(*name).is_some_and(|v| !v.is_null())) {
            return Err(MessageProblem::new(name, &format!("nothing, since {why}"), json.get(*name)));
        }
        let content = match json.get("content") {
            Some(Value::String(text)) => {
                let text = text.clone();
                if json.keys().next().is_some_and(|first| first == "content") {
                    json.shift_remove("content");
                }
                text
            }
            Some(Value::Array(parts)) => text_of_parts(parts)?,
            // Chat templates are given no content then, as transformers does.
            None | Some(Value::Null) if !is_blank("", &json) => {
                json.insert("content".to_owned(), Value::Null);
                String::new()
            }
            other => return Err(MessageProblem::new("content", "a string", other)),
        };
        // A null field means nothing, and files with columns have it for every turn.
        json.retain(|name, value| !value.is_null() || name == "content");
        Ok(Self { role, content, fields: json })
    }
}

/// Fields in which an assistant says something without text. A response of this project's layout may have them too.
pub const SPEAKING_FIELDS: [&str; 5] = ["tool_calls", "function_call", "reasoning_content", "reasoning", "thinking"];

/// Fields that would be left out of the tokens, or of the loss, in silence.
const REFUSED: &[(&str, &str)] = &[
    ("image", IN_PARTS),
    ("images", IN_PARTS),
    ("video", ONLY_TEXT),
    ("videos", ONLY_TEXT),
    ("audio", ONLY_TEXT),
    ("audios", ONLY_TEXT),
    ("weight", NO_WEIGHTS),
    ("train", NO_WEIGHTS),
    ("loss", NO_WEIGHTS),
];
const ONLY_TEXT: &str = "only text and images are read";
const IN_PARTS: &str = "images are parts of a content, or a list beside the conversation";
const NO_WEIGHTS: &str = "turns have no weights";

/// The texts of a content's parts. A part that is neither text nor an image is refused by its type.
fn text_of_parts(parts: &[Value]) -> Result<String, MessageProblem> {
    let mut all = String::new();
    for (i, part) in parts.iter().enumerate() {
        let field = |name: &str| format!("content[{i}].{name}");
        let Value::Object(part) = part else {
            return Err(MessageProblem::new(&format!("content[{i}]"), "an object", Some(part)));
        };
        if is_image(part) {
            check_image(part, &field)?;
            continue;
        }
        if part.get("type").and_then(Value::as_str) != Some("text") {
            let expected = "\"text\" or \"image\", since only these are read";
            return Err(MessageProblem::new(&field("type"), expected, part.get("type")));
        }
        let Some(text) = part.get("text").and_then(Value::as_str) else {
            return Err(MessageProblem::new(&field("text"), "a string", part.get("text")));
        };
        let more = |(name, value): &(&String, &Value)| !matches!(name.as_str(), "type" | "text") && is_something(value);
        if let Some((name, value)) = part.iter().find(more) {
            return Err(MessageProblem::new(&field(name), "nothing beside \"type\" and \"text\"", Some(value)));
        }
        all.push_str(text);
    }
    Ok(all)
}

/// Whether a value asks for something: it is not null, empty or false.
pub fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Message, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[rstest]
    #[case::text(json!({"role": "user", "content": "Hi."}), "Hi.")]
    #[case::parts(json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "image": null}]}), "ab")]
    #[case::call(json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}), "")]
    #[case::more(json!({"role": "tool", "content": "14:05", "name": "clock", "tool_call_id": "1"}), "14:05")]
    #[case::reasoning(json!({"role": "assistant", "content": "", "reasoning_content": "why"}), "")]
    fn nothing_is_lost(#[case] json: Value, #[case] text: &str) {
        let message = read(json.clone()).unwrap();
        assert_eq!(message.content, text);
        assert_eq!(serde_json::to_value(&message).unwrap(), json);
    }

    #[rstest]
    #[case(json!({"role": "user"}), "missing field `content`: expected a string")]
    #[case(json!({"role": "assistant", "content": null, "tool_calls": []}), "field `content`: expected a string")]
    #[case(json!({"content": "a"}), "missing field `role`: expected a string")]
    #[case(json!({"role": "user", "content": [{"type": "audio"}]}), "field `content[0].type`: expected \"text\" or \"image\", since only these are read")]
    #[case(json!({"role": "user", "content": [{"type": "text"}]}), "missing field `content[0].text`: expected a string")]
    #[case(
        json!({"role": "user", "content": [{"type": "text", "text": "a", "image": "b.png"}]}),
        "field `content[0].image`: expected nothing beside \"type\" and \"text\""
    )]
    #[case(json!({"role": "user", "content": "a", "images": ["b.png"]}), "field `images`: expected nothing, since images are parts of a content, or a list beside the conversation")]
    #[case(json!({"role": "user", "content": "a", "weight": 0}), "field `weight`: expected nothing, since turns have no weights")]
    fn what_cannot_be_read_is_refused_by_name(#[case] json: Value, #[case] problem: &str) {
        assert_eq!(read(json).unwrap_err(), problem);
    }
}
