//! Chat templates: a conversation as the text that a model was trained on.

mod budget;
mod builtins;
mod compile;
mod env;
mod json;
mod operators;
mod printing;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use chrono::NaiveDateTime;
use minijinja::machinery::{Vm, make_string_output};
use minijinja::{AutoEscape, Environment, Value};

use crate::TextError;
use crate::model_files::{read_json, read_text};
use collimate_data::Message;
use collimate_data::caught;

/// A template's own messages may be any length; of an error this much is shown, in characters.
const MAX_PROBLEM_CHARACTERS: usize = 1000;

/// A model's chat template, compiled.
///
/// Rendered as transformers does it: `trim_blocks` and `lstrip_blocks` on, one newline at the template's end dropped,
/// no escaping, Python's string and dict methods, `raise_exception`, `strftime_now`, `tojson`, `break` and `continue`,
/// `{% generation %}` read and ignored. `tools` and `documents` are none. A rendering that loops or grows without
/// end stops with an error: instructions, data worked on, text printed and nesting are bounded, whatever the template.
///
/// Not done: Jinja2 extensions besides those named; other templates (`include`, `import`, `extends`).
pub struct ChatTemplate {
    env: Environment<'static>,
    code: compile::Compiled,
    source: String,
    special_tokens: BTreeMap<String, String>,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are the variables that name tokens, as `bos_token` → `<s>`.
    ///
    /// # Errors
    /// [`TextError::Template`] with the line, where the template cannot be parsed.
    pub fn new(source: &str, special_tokens: BTreeMap<String, String>) -> Result<Self, TextError> {
        Self::at(source, special_tokens, None)
    }

    /// The same template with `strftime_now` fixed to one moment, for results that do not change from day to day.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn with_now(self, now: NaiveDateTime) -> Result<Self, TextError> {
        Self::at(&self.source, self.special_tokens, Some(now))
    }

    /// The template of a model's folder: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`, a
    /// string or a list of `{name, template}` of which `default` is taken, else `chat_template` of `chat_template.json`.
    /// Those of `additional_chat_templates` are for other ends and not taken. None where the folder has none.
    ///
    /// # Errors
    /// A file that cannot be read, a `chat_template` of another kind, or a template that cannot be parsed.
    pub fn from_model_dir(dir: &Path) -> Result<Option<Self>, TextError> {
        let tokens = crate::tokenizer::SpecialTokens::from_model_dir(dir)?;
        let Some(source) = template_source(dir)? else { return Ok(None) };
        Self::new(&source, tokens.texts).map(Some)
    }

    /// The text of a conversation; with `add_generation_prompt`, also the start of the assistant's next turn.
    ///
    /// # Errors
    /// [`TextError::Template`] where the template refuses the conversation (`raise_exception`), uses what is not
    /// there, or goes on without end.
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
        let code = self.code.borrow_dependent();
        guarded(|| {
            let mut text = String::new();
            let mut out = make_string_output(&mut text);
            let vm = Vm::new(&self.env);
            vm.eval(&code.main, Value::from(context), &code.blocks, &mut out, AutoEscape::None)?;
            Ok(text)
        })
    }

    /// The template's text, as the model's folder has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    fn at(
        source: &str,
        special_tokens: BTreeMap<String, String>,
        now: Option<NaiveDateTime>,
    ) -> Result<Self, TextError> {
        let code = guarded(|| compile::compile(env::preprocess(source)))?;
        Ok(Self { env: env::environment(now), code, source: source.to_owned(), special_tokens })
    }
}

/// The template's text in a model's folder, if it has one.
fn template_source(dir: &Path) -> Result<Option<String>, TextError> {
    if let Some(source) = read_text(&dir.join("chat_template.jinja"))? {
        return Ok(Some(source));
    }
    // The second is what older processors of pictures and text have.
    for file in ["tokenizer_config.json", "chat_template.json"] {
        let path = dir.join(file);
        let Some(config) = read_json(&path)? else { continue };
        if let Some(source) = source_in(&path, &config)? {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

/// The template in a file of JSON, if it has one.
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

/// Work of the template engine; a panic of it is an error like others.
fn guarded<T>(work: impl FnOnce() -> Result<T, minijinja::Error>) -> Result<T, TextError> {
    match caught(work) {
        Ok(result) => result.map_err(|error| failure(&error)),
        Err(panic) => Err(TextError::Template { problem: format!("the template engine broke off ({panic})") }),
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
