//! Chat templates: Jinja programs that turn a conversation into the text a model was trained on.

mod budget;
mod builtins;
mod cost;
mod env;
mod identity;
mod inputs;
mod json;
mod lexer;
mod operators;
mod printing;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use chrono::NaiveDateTime;
use collimate_data::{ChatInputs, Message, caught};
use minijinja::{Environment, Template, Value};
use self_cell::self_cell;

use crate::TextError;
use crate::model_files::{read_json, read_text};
use crate::special_tokens::SpecialTokens;
pub use inputs::ChatDefaults;
use inputs::{Variables, wishes, without};

/// The longest error message, in characters; a template's own messages may have any length.
const MAX_PROBLEM_CHARACTERS: usize = 1000;

/// A model's chat template, compiled.
///
/// Renders like transformers: `trim_blocks` and `lstrip_blocks`, one trailing newline of the template dropped, no
/// escaping, Python's string and dict methods, `raise_exception`, `strftime_now`, `tojson`, `break` and `continue`;
/// `{% generation %}` prints nothing. Messages have no null fields, and their reasoning is known under every name that
/// transformers gives it.
///
/// Templates are untrusted. Instructions, bytes processed, bytes printed and nesting are limited, so a rendering that
/// would loop or grow without bound is an error.
///
/// Other Jinja2 extensions are not supported, nor are other templates (`include`, `import`, `extends`).
pub struct ChatTemplate {
    compiled: Compiled,
    source: String,
    special_tokens: BTreeMap<String, String>,
    /// The template for conversations with tools, if the model has one of its own for them.
    with_tools: Option<Box<ChatTemplate>>,
    defaults: ChatDefaults,
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
    /// string, or a list of `{name, template}` of which `default` is used. Conversations with tools use the one called
    /// `tool_use`, in that list or in `additional_chat_templates`, if there is one.
    ///
    /// # Errors
    /// A file cannot be read, `chat_template` has the wrong type, or a template cannot be parsed.
    pub fn from_model_dir(dir: &Path) -> Result<Option<Self>, TextError> {
        let tokens = SpecialTokens::from_model_dir(dir)?;
        let Some(sources) = template_sources(dir)? else { return Ok(None) };
        let mut template = Self::new(&sources.default, tokens.texts.clone())?;
        template.with_tools =
            sources.tool_use.map(|source| Self::new(&source, tokens.texts)).transpose()?.map(Box::new);
        Ok(Some(template))
    }

    /// Sets the system prompt and variables of conversations that have none of their own.
    pub fn with_defaults(mut self, defaults: ChatDefaults) -> Self {
        self.defaults = defaults;
        self
    }

    /// Renders a conversation; `add_generation_prompt` appends the start of the assistant's next turn.
    ///
    /// # Errors
    /// [`TextError::Template`] if the template rejects the conversation (`raise_exception`), uses an undefined value,
    /// exceeds a limit, or leaves out calls or reasoning of a message.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TextError> {
        self.render_with(messages, &ChatInputs::default(), add_generation_prompt)
    }

    /// [`ChatTemplate::render`] with tools and further variables.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; also if the template leaves out the tools.
    pub fn render_with(
        &self,
        messages: &[Message],
        inputs: &ChatInputs,
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let template = self.with_tools.as_deref().filter(|_| inputs.tools.is_some()).unwrap_or(self);
        let (size, limit) = (inputs::num_bytes(messages, inputs), budget::MAX_CONVERSATION_BYTES);
        if size > limit {
            let problem = format!("the conversation has {size} bytes with its tools, and at most {limit} are rendered");
            return Err(TextError::Template { problem });
        }
        let messages = self.defaults.with_system(messages);
        let render = |messages: &[Message], inputs: &ChatInputs| {
            template.render_plain(messages, inputs, &self.defaults, add_generation_prompt)
        };
        let text = render(&messages, inputs)?;
        for (name, marks) in wishes(&messages, inputs) {
            // A template may read a field without naming it, by printing whole messages.
            if !marks.iter().any(|mark| template.source.contains(mark)) {
                let (messages, inputs) = without(&messages, inputs, name);
                if render(&messages, &inputs).is_ok_and(|other| other == text) {
                    let problem = format!("it leaves out \"{name}\", which the conversation has");
                    return Err(TextError::Template { problem });
                }
            }
        }
        Ok(text)
    }

    fn render_plain(
        &self,
        messages: &[Message],
        inputs: &ChatInputs,
        defaults: &ChatDefaults,
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let Variables { mut context, num_bytes } = Variables::new(messages, inputs, defaults, &self.special_tokens);
        let work = budget::WORK_BYTES.saturating_add(num_bytes.saturating_mul(budget::WORK_PER_BYTE));
        let work = work.min(budget::MOST_WORK_BYTES);
        // Last, so that no variable of a row replaces them.
        context.insert("add_generation_prompt".to_owned(), Value::from(add_generation_prompt));
        context.insert(budget::WORK_VARIABLE.to_owned(), Value::from(work));
        guarded(|| self.compiled.borrow_dependent().render(Value::from(context)))
    }

    /// Changes the template's variable `eos_token`.
    pub(crate) fn with_eos_token(mut self, text: &str) -> Self {
        self.special_tokens.insert("eos_token".to_owned(), text.to_owned());
        self.with_tools = self.with_tools.map(|template| Box::new(template.with_eos_token(text)));
        self
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
        let defaults = ChatDefaults::default();
        Ok(Self { compiled, source: source.to_owned(), special_tokens, with_tools: None, defaults })
    }
}

/// The sources of a folder's templates.
struct Sources {
    default: String,
    tool_use: Option<String>,
}

/// The sources of a folder's templates, if it has any.
fn template_sources(dir: &Path) -> Result<Option<Sources>, TextError> {
    if let Some(default) = read_text(&dir.join("chat_template.jinja"))? {
        let tool_use = read_text(&dir.join("additional_chat_templates").join("tool_use.jinja"))?;
        return Ok(Some(Sources { default, tool_use }));
    }
    // Older image-and-text processors have the second.
    for file in ["tokenizer_config.json", "chat_template.json"] {
        let path = dir.join(file);
        let Some(config) = read_json(&path)? else { continue };
        if let Some(sources) = sources_in(&path, &config)? {
            return Ok(Some(sources));
        }
    }
    Ok(None)
}

/// The templates in a JSON file, if it has any.
fn sources_in(path: &Path, config: &serde_json::Value) -> Result<Option<Sources>, TextError> {
    let problem = |problem: String| TextError::File { path: path.to_owned(), problem };
    let entries = match &config["chat_template"] {
        serde_json::Value::Null => return Ok(None),
        serde_json::Value::String(source) => return Ok(Some(Sources { default: source.clone(), tool_use: None })),
        serde_json::Value::Array(entries) => entries,
        _ => {
            let text = "field \"chat_template\": expected a string or a list of objects with name and template";
            return Err(problem(text.to_owned()));
        }
    };
    let named: Vec<(&str, &str)> =
        entries.iter().filter_map(|entry| Some((entry["name"].as_str()?, entry["template"].as_str()?))).collect();
    let find = |wanted: &str| named.iter().find(|(name, _)| *name == wanted).map(|(_, source)| (*source).to_owned());
    let only = named.first().filter(|_| named.len() == 1).map(|(_, source)| (*source).to_owned());
    match find("default").or(only) {
        Some(default) => Ok(Some(Sources { default, tool_use: find("tool_use") })),
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
