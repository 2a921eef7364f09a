//! The Jinja environment of chat templates: what Python's Jinja2 gives them, as far as published templates use it.

use std::fmt::Write as _;
use std::sync::LazyLock;

use chrono::NaiveDateTime;
use chrono::format::{Item, StrftimeItems};
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::budget::Budget;
use super::{builtins, json, operators, printing};

/// Instructions that one rendering may take, a tenth of a second's; a conversation takes about a hundred a message.
const FUEL: u64 = 2_000_000;
/// Macros within macros cost four each; every call takes some of the thread's stack.
const MAX_RECURSION: usize = 200;

/// An environment as transformers sets it: Python's methods and printing. Blocks are trimmed where it is compiled.
pub(super) fn environment(now: Option<NaiveDateTime>) -> Environment<'static> {
    // Made once: it has a hundred functions, and clones share them.
    static COMMON: LazyLock<Environment<'static>> = LazyLock::new(common);
    let mut env = COMMON.clone();
    env.add_function("strftime_now", move |state: &State<'_, '_>, format: &str| {
        // A directive of two characters prints some thirty.
        Budget::of(state).charge_product(format.len(), 16)?;
        strftime(now, format)
    });
    env
}

fn common() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_debug(false);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(MAX_RECURSION);
    env.set_formatter(printing::print);
    builtins::register(&mut env);
    operators::register(&mut env);
    env.add_filter("tojson", json::to_json);
    for name in ["string", "pprint"] {
        env.add_filter(name, |state: &State<'_, '_>, value: &Value| printing::write_str(&Budget::of(state), value));
    }
    // None is none of them in Python, and what is not there is an empty one.
    env.add_test("iterable", |value: &Value| match value.kind() {
        ValueKind::String => true,
        ValueKind::None => false,
        _ => value.try_iter().is_ok(),
    });
    env.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    env.add_function("raise_exception", raise_exception);
    env
}

/// Makes `{% generation %}`, which marks the assistant's tokens and prints nothing, a block that minijinja knows, and
/// line ends those that Jinja2 reads. Whitespace control of the tags stays as it was.
pub(super) fn preprocess(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        // Behind the mark: in `{%}` the two overlap.
        let Some(end) = tag[2..].find("%}") else { return out + tag };
        let (tag, after) = tag.split_at(end + 4);
        let inner = &tag[2..tag.len() - 2];
        let keyword = inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        match keyword {
            "generation" => out.push_str(&tag.replacen(keyword, "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen(keyword, "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out + rest
}

fn raise_exception(state: &State<'_, '_>, message: &Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, printing::write_str(&Budget::of(state), message)?))
}

fn strftime(now: Option<NaiveDateTime>, format: &str) -> Result<String, Error> {
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        let message = format!("strftime_now does not know the format {format:?}");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    let now = now.unwrap_or_else(|| chrono::Local::now().naive_local());
    let mut text = String::new();
    write!(text, "{}", now.format_with_items(items.into_iter()))
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, format!("strftime_now cannot print {format:?}")))?;
    Ok(text)
}
