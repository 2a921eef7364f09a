//! The engine's environment: what published templates use of Python's Jinja2.

use std::fmt::Write as _;
use std::sync::LazyLock;

use chrono::NaiveDateTime;
use chrono::format::{Item, StrftimeItems};
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};

use crate::budget::Budget;
use crate::{builtins, json, operators, printing};

/// Instructions of one rendering, about a tenth of a second. A conversation takes about a hundred per message.
const FUEL: u64 = 2_000_000;
/// Every level uses some of the thread's stack; a macro call counts as four.
const MAX_RECURSION: usize = 200;

/// An environment with Python's methods and printing; `now` fixes the time of `strftime_now`.
pub(crate) fn environment(now: Option<NaiveDateTime>) -> Environment<'static> {
    // Built once: it holds a hundred functions, which clones share.
    static COMMON: LazyLock<Environment<'static>> = LazyLock::new(common);
    let mut env = COMMON.clone();
    env.add_function("strftime_now", move |state: &State<'_, '_>, format: &str| {
        // A two-character directive prints about thirty characters.
        Budget::from_state(state).charge_product(format.len(), 16)?;
        strftime(now, format)
    });
    env
}

fn common() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_debug(false);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(MAX_RECURSION);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_formatter(printing::print);
    builtins::register(&mut env);
    operators::register(&mut env);
    env.add_filter("tojson", json::to_json);
    for name in ["string", "pprint"] {
        env.add_filter(name, |state: &State<'_, '_>, value: &Value| {
            printing::write_str(&Budget::from_state(state), value)
        });
    }
    // As in Python, None is not iterable, and an undefined value is an empty iterable.
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

fn raise_exception(state: &State<'_, '_>, message: &Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, printing::write_str(&Budget::from_state(state), message)?))
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
