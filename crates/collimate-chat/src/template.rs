//! A template, compiled, and what it makes of a conversation.

mod identity;

use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDateTime;
use collimate_data::{ChatInputs, Message, caught};
use minijinja::{Environment, Template, Value};
use self_cell::self_cell;

use crate::inputs::{self, Variables, wishes, without};
use crate::{ChatDefaults, ChatError, TemplateSources, budget, env, source, with_memory};

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
    /// Bytes of memory that limits follow; 0 for those of little memory.
    memory: u64,
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
    /// [`ChatError::Template`], with the line, if the template cannot be parsed.
    pub fn new(source: &str, special_tokens: BTreeMap<String, String>) -> Result<Self, ChatError> {
        Self::at(source, special_tokens, None)
    }

    /// Fixes the time that `strftime_now` prints, for results that do not change from day to day.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn with_now(self, now: NaiveDateTime) -> Result<Self, ChatError> {
        Self::at(&self.source, self.special_tokens, Some(now))
    }

    /// Compiles a model's templates: conversations with tools are rendered by the one for them.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn from_sources(
        sources: &TemplateSources,
        special_tokens: BTreeMap<String, String>,
    ) -> Result<Self, ChatError> {
        let mut template = Self::new(&sources.default, special_tokens.clone())?;
        let with_tools = sources.tool_use.as_ref().map(|source| Self::new(source, special_tokens)).transpose()?;
        template.with_tools = with_tools.map(Box::new);
        Ok(template)
    }

    /// Sets the system prompt and variables of conversations that have none of their own.
    pub fn with_defaults(mut self, defaults: ChatDefaults) -> Self {
        self.defaults = defaults;
        self
    }

    /// Lets longer conversations through where `memory` bytes may be used, as [`crate::with_memory`] says.
    pub fn with_memory(mut self, memory: u64) -> Self {
        self.memory = memory;
        self.with_tools = self.with_tools.map(|template| Box::new(template.with_memory(memory)));
        self
    }

    /// Renders a conversation; `add_generation_prompt` appends the start of the assistant's next turn.
    ///
    /// # Errors
    /// [`ChatError::Template`] if the template rejects the conversation (`raise_exception`), uses an undefined value or
    /// exceeds a limit; [`ChatError::TooLong`]; [`ChatError::LeftOut`] if it leaves out calls or reasoning of a message.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, ChatError> {
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
    ) -> Result<String, ChatError> {
        let template = self.with_tools.as_deref().filter(|_| inputs.tools.is_some()).unwrap_or(self);
        let size = inputs::num_bytes(messages, inputs);
        let limit = with_memory(budget::MAX_CONVERSATION_BYTES, self.memory);
        if size > limit {
            return Err(ChatError::TooLong { size, limit });
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
                    return Err(ChatError::LeftOut { field: name.to_owned() });
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
    ) -> Result<String, ChatError> {
        let Variables { mut context, num_bytes } = Variables::new(messages, inputs, defaults, &self.special_tokens);
        let work = budget::work_bytes(num_bytes, self.memory);
        let output = budget::output_bytes(num_bytes, self.memory);
        // Last, so that no variable of a row replaces them.
        context.insert("add_generation_prompt".to_owned(), Value::from(add_generation_prompt));
        context.insert(budget::WORK_VARIABLE.to_owned(), Value::from(work));
        context.insert(budget::OUTPUT_VARIABLE.to_owned(), Value::from(output));
        guarded(|| self.compiled.borrow_dependent().render(Value::from(context)))
    }

    /// Changes the template's variable `eos_token`.
    pub fn with_eos_token(mut self, text: &str) -> Self {
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
    ) -> Result<Self, ChatError> {
        let compiled = guarded(|| {
            // Jinja2 normalizes line endings in the same way.
            let text = source::paid_source(&source.replace("\r\n", "\n").replace('\r', "\n"))?;
            Compiled::try_new(Engine { env: env::environment(now), text }, |engine| {
                engine.env.template_from_named_str("chat_template", &engine.text)
            })
        })?;
        let defaults = ChatDefaults::default();
        Ok(Self { compiled, source: source.to_owned(), special_tokens, with_tools: None, defaults, memory: 0 })
    }
}

/// Runs the template engine and turns its panics into errors.
fn guarded<T>(work: impl FnOnce() -> Result<T, minijinja::Error>) -> Result<T, ChatError> {
    match caught(work) {
        Ok(result) => result.map_err(|error| failure(&error)),
        Err(panic) => Err(ChatError::Template { problem: format!("the template engine panicked ({panic})") }),
    }
}

fn failure(error: &minijinja::Error) -> ChatError {
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
    ChatError::Template { problem }
}

#[cfg(test)]
mod tests;
