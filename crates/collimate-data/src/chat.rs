//! Chat templates: a conversation as the text that a model was trained on.

mod env;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use chrono::NaiveDateTime;
use minijinja::{Environment, Value};

use crate::model_files::{read_json, read_text};
use crate::{DataError, Message};

/// The most text that one rendering may give, in bytes.
const MAX_OUTPUT_BYTES: usize = 64 << 20;

const NAME: &str = "chat_template";

/// A model's chat template, compiled.
///
/// Rendered as transformers does it: `trim_blocks` and `lstrip_blocks` on, one newline at the template's end dropped,
/// no escaping, Python's string and dict methods, `raise_exception`, `strftime_now`, `tojson`, `break` and `continue`,
/// `{% generation %}` read and ignored. `tools` and `documents` are none. A rendering that loops or grows without
/// end stops with an error.
///
/// Not done: `~` prints `true` and `none` where Python prints `True` and `None`; Jinja2 extensions besides those named.
#[derive(Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    special_tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are the variables that name tokens, as `bos_token` → `<s>`.
    ///
    /// # Errors
    /// [`DataError::Template`] with the line, where the template cannot be parsed.
    pub fn new(source: &str, special_tokens: BTreeMap<String, String>) -> Result<Self, DataError> {
        Self::at(source, special_tokens, None)
    }

    /// The same template with `strftime_now` fixed to one moment, for results that do not change from day to day.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn with_now(self, now: NaiveDateTime) -> Result<Self, DataError> {
        Self::at(&self.source, self.special_tokens, Some(now))
    }

    /// The template of a model's folder: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`, a
    /// string or a list of `{name, template}` of which `default` is taken. None where the folder has neither.
    ///
    /// # Errors
    /// A file that cannot be read, a `chat_template` of another kind, or a template that cannot be parsed.
    pub fn from_model_dir(dir: &Path) -> Result<Option<Self>, DataError> {
        let tokens = crate::tokenizer::SpecialTokens::from_model_dir(dir)?;
        let Some(source) = template_source(dir)? else { return Ok(None) };
        Self::new(&source, tokens.texts).map(Some)
    }

    /// The text of a conversation; with `add_generation_prompt`, also the start of the assistant's next turn.
    ///
    /// # Errors
    /// [`DataError::Template`] where the template refuses the conversation (`raise_exception`), uses what is not
    /// there, or goes on without end.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, DataError> {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        context.extend(self.special_tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str()))));
        context.insert("messages", Value::from_serialize(messages));
        context.insert("add_generation_prompt", Value::from(add_generation_prompt));
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        let mut out = Bounded { text: Vec::new() };
        let template = self.env.get_template(NAME).map_err(|error| failure(&error))?;
        template.render_captured_to(context, &mut out).map_err(|error| failure(&error))?;
        Ok(String::from_utf8_lossy(&out.text).into_owned())
    }

    /// The template's text, as the model's folder has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn at(
        source: &str,
        special_tokens: BTreeMap<String, String>,
        now: Option<NaiveDateTime>,
    ) -> Result<Self, DataError> {
        let mut env = env::environment(now);
        env.add_template_owned(NAME, env::preprocess(source)).map_err(|error| failure(&error))?;
        Ok(Self { env, source: source.to_owned(), special_tokens })
    }
}

/// The template's text in a model's folder, if it has one.
fn template_source(dir: &Path) -> Result<Option<String>, DataError> {
    if let Some(source) = read_text(&dir.join("chat_template.jinja"))? {
        return Ok(Some(source));
    }
    let path = dir.join("tokenizer_config.json");
    let Some(config) = read_json(&path)? else { return Ok(None) };
    let problem = |problem: String| DataError::File { path: path.clone(), problem };
    let entries = match &config["chat_template"] {
        serde_json::Value::Null => return Ok(None),
        serde_json::Value::String(source) => return Ok(Some(source.clone())),
        serde_json::Value::Array(entries) => entries,
        _ => {
            let text = "field \"chat_template\": expected a string or a list of objects with name and template";
            return Err(problem(text.to_owned()));
        }
    };
    let named: Vec<(&str, &str)> =
        entries.iter().filter_map(|entry| Some((entry["name"].as_str()?, entry["template"].as_str()?))).collect();
    match named.iter().find(|(name, _)| *name == "default").or(named.first().filter(|_| named.len() == 1)) {
        Some((_, source)) => Ok(Some((*source).to_owned())),
        None => {
            let names: Vec<_> = named.iter().map(|(name, _)| *name).collect();
            let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(problem(format!("field \"chat_template\": expected a template named default, found {found}")))
        }
    }
}

fn failure(error: &minijinja::Error) -> DataError {
    let what = match (error.detail(), std::error::Error::source(error)) {
        (Some(detail), Some(source)) => format!("{detail}: {source}"),
        (Some(detail), None) => detail.to_owned(),
        (None, Some(source)) => format!("{}: {source}", error.kind()),
        (None, None) => error.kind().to_string(),
    };
    let problem = match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    };
    DataError::Template { problem }
}

/// Refuses to grow beyond [`MAX_OUTPUT_BYTES`].
struct Bounded {
    text: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other(format!("the text grows beyond {MAX_OUTPUT_BYTES} bytes")));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
