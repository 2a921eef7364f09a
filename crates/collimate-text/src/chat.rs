//! Chat templates: Jinja programs that turn a conversation into the text a model was trained on.

mod budget;
mod builtins;
mod cost;
mod env;
mod json;
mod lexer;
mod operators;
mod printing;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use chrono::NaiveDateTime;
use collimate_data::{Message, caught};
use minijinja::{Environment, Template, Value};
use self_cell::self_cell;

use crate::TextError;
use crate::model_files::{read_json, read_text};
use crate::special_tokens::SpecialTokens;

/// The longest error message, in characters; a template's own messages may have any length.
const MAX_PROBLEM_CHARACTERS: usize = 1000;

/// A model's chat template, compiled.
///
/// Renders like transformers: `trim_blocks` and `lstrip_blocks`, one trailing newline of the template dropped, no
/// escaping, Python's string and dict methods, `raise_exception`, `strftime_now`, `tojson`, `break` and `continue`;
/// `{% generation %}` prints nothing. `tools` and `documents` are `none`.
///
/// Templates are untrusted. Instructions, bytes processed, bytes printed and nesting are limited, so a rendering that
/// would loop or grow without bound is an error.
///
/// Other Jinja2 extensions are not supported, nor are other templates (`include`, `import`, `extends`).
pub struct ChatTemplate {
    compiled: Compiled,
    source: String,
    special_tokens: BTreeMap<String, String>,
}

/// The environment and source that the compiled template borrows from.
struct Engine {
    env: Environment<'static>,
    text: String,
}

type Borrowed<'a> = Template<'a, 'a>;

self_cell!(
    struct Compiled {
        owner: Engine,
        #[covariant]
        dependent: Borrowed,
    }
);

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables of the template, as `bos_token` → `<s>`.
    ///
    /// # Errors
    /// [`TextError::Template`], with the line, if the template cannot be parsed.
    pub fn new(source: &str, special_tokens: BTreeMap<String, String>) -> Result<Self, TextError> {
        Self::at(source, special_tokens, None)
    }

    /// Fixes the time that `strftime_now` prints, for results that do not change from day to day.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn with_now(self, now: NaiveDateTime) -> Result<Self, TextError> {
        Self::at(&self.source, self.special_tokens, Some(now))
    }

    /// Reads the chat template of a model's folder; `None` if it has none.
    ///
    /// That is `chat_template.jinja`, or else `chat_template` of `tokenizer_config.json` or `chat_template.json`: a
    /// string, or a list of `{name, template}` of which `default` is used. `additional_chat_templates` serve other
    /// purposes and are ignored.
    ///
    /// # Errors
    /// A file cannot be read, `chat_template` has the wrong type, or the template cannot be parsed.
    pub fn from_model_dir(dir: &Path) -> Result<Option<Self>, TextError> {
        let tokens = SpecialTokens::from_model_dir(dir)?;
        let Some(source) = template_source(dir)? else { return Ok(None) };
        Self::new(&source, tokens.texts).map(Some)
    }

    /// Renders a conversation; `add_generation_prompt` appends the start of the assistant's next turn.
    ///
    /// # Errors
    /// [`TextError::Template`] if the template rejects the conversation (`raise_exception`), uses an undefined value or
    /// exceeds a limit.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TextError> {
        let texts = messages.iter().map(|message| budget::MESSAGE_BYTES + message.role.len() + message.content.len());
        let input_bytes = texts.chain(self.special_tokens.values().map(String::len)).fold(0, usize::saturating_add);
        let work = budget::WORK_BYTES.saturating_add(input_bytes.saturating_mul(budget::WORK_PER_BYTE));
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        context.extend(self.special_tokens.iter().map(|(name, text)| (name.as_str(), Value::from(text.as_str()))));
        context.insert("messages", Value::from_serialize(messages));
        context.insert("add_generation_prompt", Value::from(add_generation_prompt));
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        context.insert(budget::WORK_VARIABLE, Value::from(work));
        guarded(|| self.compiled.borrow_dependent().render(Value::from(context)))
    }

    /// The template as written in the model's folder.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn at(
        source: &str,
        special_tokens: BTreeMap<String, String>,
        now: Option<NaiveDateTime>,
    ) -> Result<Self, TextError> {
        let compiled = guarded(|| {
            // Jinja2 normalizes line endings in the same way.
            let text = source::paid_source(&source.replace("\r\n", "\n").replace('\r', "\n"))?;
            Compiled::try_new(Engine { env: env::environment(now), text }, |engine| {
                engine.env.template_from_named_str("chat_template", &engine.text)
            })
        })?;
        Ok(Self { compiled, source: source.to_owned(), special_tokens })
    }
}

/// The source of a folder's template, if it has one.
fn template_source(dir: &Path) -> Result<Option<String>, TextError> {
    if let Some(source) = read_text(&dir.join("chat_template.jinja"))? {
        return Ok(Some(source));
    }
    // Older image-and-text processors have the second.
    for file in ["tokenizer_config.json", "chat_template.json"] {
        let path = dir.join(file);
        let Some(config) = read_json(&path)? else { continue };
        if let Some(source) = source_in(&path, &config)? {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

/// The template in a JSON file, if it has one.
fn source_in(path: &Path, config: &serde_json::Value) -> Result<Option<String>, TextError> {
    let problem = |problem: String| TextError::File { path: path.to_owned(), problem };
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

/// Runs the template engine and turns its panics into errors.
fn guarded<T>(work: impl FnOnce() -> Result<T, minijinja::Error>) -> Result<T, TextError> {
    match caught(work) {
        Ok(result) => result.map_err(|error| failure(&error)),
        Err(panic) => Err(TextError::Template { problem: format!("the template engine panicked ({panic})") }),
    }
}

fn failure(error: &minijinja::Error) -> TextError {
    let what = match (error.detail(), std::error::Error::source(error)) {
        (Some(detail), Some(source)) => format!("{detail}: {source}"),
        (Some(detail), None) => detail.to_owned(),
        (None, Some(source)) => format!("{}: {source}", error.kind()),
        (None, None) => error.kind().to_string(),
    };
    let what = match what.char_indices().nth(MAX_PROBLEM_CHARACTERS) {
        Some((end, _)) => format!("{}…", &what[..end]),
        None => what,
    };
    let problem = match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    };
    TextError::Template { problem }
}

#[cfg(test)]
mod tests;
