//! Prints values as Python does; every byte is paid for before it is written.

use std::fmt::{self, Write};

use minijinja::value::ValueKind;
use minijinja::{Error, Output, State, Value};

use crate::budget::{Budget, MAX_NESTING, PaidText, exhausted};

/// Prints a value to the template's output: the engine's formatter.
pub(crate) fn print(out: &mut Output<'_>, state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let budget = Budget::from_state(state);
    if let Some(text) = value.as_str() {
        budget.print(text.len())?;
        return out.write_str(text).map_err(Error::from);
    }
    let text = write_str(&budget, value)?;
    budget.print(text.len())?;
    out.write_str(&text).map_err(Error::from)
}

/// Python's `str(value)`; an undefined value prints nothing, as in Jinja2.
pub(crate) fn write_str(budget: &Budget, value: &Value) -> Result<String, Error> {
    let mut out = PaidText { text: String::new(), budget };
    let written = match value.as_str() {
        Some(text) => out.write_str(text),
        None if value.is_undefined() => Ok(()),
        None => write_repr(&mut out, value, 0),
    };
    written.map_err(|_| exhausted())?;
    Ok(out.text)
}

fn write_repr(out: &mut PaidText<'_>, value: &Value, depth: usize) -> fmt::Result {
    if depth > MAX_NESTING {
        return Err(fmt::Error);
    }
    match value.kind() {
        ValueKind::None => out.write_str("None"),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::String => quote(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            out.write_str("[")?;
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.write_str(if index > 0 { ", " } else { "" })?;
                write_repr(out, &item, depth + 1)?;
            }
            out.write_str("]")
        }
        ValueKind::Map => {
            out.write_str("{")?;
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.write_str(if index > 0 { ", " } else { "" })?;
                write_repr(out, &key, depth + 1)?;
                out.write_str(": ")?;
                write_repr(out, &value.get_item(&key).unwrap_or_default(), depth + 1)?;
            }
            out.write_str("}")
        }
        _ => write!(out, "{value}"),
    }
}

/// Quotes a string like Python's `repr`: in single quotes, unless it holds single but no double quotes.
fn quote(out: &mut PaidText<'_>, text: &str) -> fmt::Result {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(mark)?;
    for c in text.chars() {
        match c {
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\\' => out.write_str("\\\\")?,
            c if c == mark => [('\\'), c].into_iter().try_for_each(|c| out.write_char(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char(mark)
}
