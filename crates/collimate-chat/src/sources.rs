//! The templates that a model has, by what they are for.

use serde_json::Value as Json;

use crate::ChatError;

/// The sources of a model's templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSources {
    /// The template.
    pub default: String,
    /// The one for conversations with tools, if they have one of their own.
    pub tool_use: Option<String>,
}

impl TemplateSources {
    /// Reads `chat_template` of a configuration: a string, or a list of `{name, template}`, of which those called `default`
    /// and `tool_use` are used, or the only one. `None` if it is null.
    ///
    /// # Errors
    /// [`ChatError::Sources`] if it is something else, or has several templates and none called `default`.
    pub fn from_json(chat_template: &Json) -> Result<Option<Self>, ChatError> {
        let expected = |problem: String| ChatError::Sources { problem };
        let entries = match chat_template {
            Json::Null => return Ok(None),
            Json::String(source) => return Ok(Some(Self { default: source.clone(), tool_use: None })),
            Json::Array(entries) => entries,
            _ => return Err(expected("a string or a list of objects with name and template".to_owned())),
        };
        let named: Vec<(&str, &str)> =
            entries.iter().filter_map(|entry| Some((entry["name"].as_str()?, entry["template"].as_str()?))).collect();
        let find =
            |wanted: &str| named.iter().find(|(name, _)| *name == wanted).map(|(_, source)| (*source).to_owned());
        let only = named.first().filter(|_| named.len() == 1).map(|(_, source)| (*source).to_owned());
        match find("default").or(only) {
            Some(default) => Ok(Some(Self { default, tool_use: find("tool_use") })),
            None => {
                let names: Vec<_> = named.iter().map(|(name, _)| *name).collect();
                let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                Err(expected(format!("a template named default, found {found}")))
            }
        }
    }
}
