//! The engine's filters, tests, functions and methods, each wrapped in a gate that pays for it.
//!
//! The originals are registered under names that no template can write. A gate pays for the arguments, calls the
//! original and pays for its result.

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, State, Value, filters, functions, tests as engine_tests};

use crate::budget::{Budget, NODE_BYTES, invalid};
use crate::cost;
use crate::operators::storable;
use crate::printing::write_str;

/// The most elements of a `range`, the engine's own limit.
const MAX_RANGE: i128 = 100_000;
/// Most passes over a list that sorting takes.
const SORT_PASSES: usize = 24;

macro_rules! gate_filters {
    ($env:ident: $($name:ident),+) => { $(
        $env.add_filter(concat!("\u{1}", stringify!($name)), filters::$name);
        $env.add_filter(stringify!($name), |state: &State<'_, '_>, args: Rest<Value>| {
            filter(state, stringify!($name), concat!("\u{1}", stringify!($name)), &args)
        });
    )+ };
}

macro_rules! gate_tests {
    ($env:ident: $($original:ident = [$($name:literal),+]),+) => { $( $(
        $env.add_test($name, |state: &State<'_, '_>, args: Rest<Value>| {
            let budget = Budget::from_state(state);
            args.iter().try_for_each(|value| budget.walk(value, true))?;
            state.perform_test(concat!("\u{1}", stringify!($original)), &args)
        });
    )+ $env.add_test(concat!("\u{1}", stringify!($original)), engine_tests::$original); )+ };
}

/// Registers a gate for everything the engine provides.
pub(crate) fn register(env: &mut Environment<'static>) {
    gate_filters!(env: lower, upper, title, capitalize, replace, length, dictsort, items, reverse, trim, join, split);
    gate_filters!(env: lines, default, round, abs, int, float, attr, first, last, min, max, sort, list, bool, batch);
    gate_filters!(env: slice, sum, indent, select, reject, selectattr, rejectattr, map, groupby, unique, format);
    gate_filters!(env: safe, escape);
    for (alias, name, original) in
        [("count", "length", "\u{1}length"), ("d", "default", "\u{1}default"), ("e", "escape", "\u{1}escape")]
    {
        env.add_filter(alias, move |state: &State<'_, '_>, args: Rest<Value>| filter(state, name, original, &args));
    }
    // Not part of Jinja2, and lazy: repeated uses would nest inside each other.
    env.remove_filter("chain");
    env.remove_filter("zip");
    env.remove_global("debug");
    gate_tests!(env:
        is_eq = ["eq", "equalto", "=="], is_ne = ["ne", "!="], is_lt = ["lt", "lessthan", "<"], is_le = ["le", "<="],
        is_gt = ["gt", "greaterthan", ">"], is_ge = ["ge", ">="], is_in = ["in"], is_startingwith = ["startingwith"],
        is_endingwith = ["endingwith"], is_lower = ["lower"], is_upper = ["upper"], is_sameas = ["sameas"]
    );
    env.add_function("range", range);
    env.add_function("\u{1}dict", functions::dict);
    env.add_function("\u{1}namespace", functions::namespace);
    env.add_function("dict", |state: &State<'_, '_>, args: Rest<Value>| original(state, "\u{1}dict", &args));
    env.add_function("namespace", |state: &State<'_, '_>, args: Rest<Value>| {
        args.iter().try_for_each(storable)?;
        original(state, "\u{1}namespace", &args)
    });
    env.set_unknown_method_callback(method);
}

/// Calls one of the engine's own functions.
fn original(state: &State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
    let budget = Budget::from_state(state);
    args.iter().try_for_each(|value| budget.walk(value, true))?;
    state.lookup(name).ok_or_else(|| invalid("no such function"))?.call(state, args)
}

fn filter(state: &State<'_, '_>, name: &str, original: &str, args: &[Value]) -> Result<Value, Error> {
    let budget = Budget::from_state(state);
    let args = with_texts(&budget, name, args)?;
    if let Some((value, rest)) = args.split_first() {
        pay_for_filter(&budget, name, value, rest)?;
    }
    let result = state.apply_filter(original, &args)?;
    match name {
        // The result is the argument or part of it.
        "default" | "first" | "last" | "attr" => Ok(result),
        _ => budget.settle(result),
    }
}

/// Converts to strings, and pays for, the arguments that the filter itself would convert for free.
fn with_texts(budget: &Budget, name: &str, args: &[Value]) -> Result<Vec<Value>, Error> {
    let is_text = |index: usize| match name {
        "replace" | "split" | "trim" => true,
        "join" => index == 1,
        "upper" | "lower" | "title" | "capitalize" | "lines" | "indent" | "safe" | "escape" => index == 0,
        _ => false,
    };
    let argument = |(index, value): (usize, &Value)| {
        if name == "join" && index == 0 {
            return list_of_texts(budget, value);
        }
        match is_text(index) && value.as_str().is_none() && !value.is_none() && !value.is_undefined() {
            // `split`'s maximum stays a number.
            true if name == "split" && index == 2 => Ok(value.clone()),
            true => write_str(budget, value).map(Value::from),
            false => Ok(value.clone()),
        }
    };
    args.iter().enumerate().map(argument).collect()
}

/// Converts the elements of a list to strings; returns anything else unchanged.
fn list_of_texts(budget: &Budget, list: &Value) -> Result<Value, Error> {
    if !matches!(list.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        return Ok(list.clone());
    }
    let text = |item: Value| match item.as_str() {
        Some(_) => Ok(item),
        None => write_str(budget, &item).map(Value::from),
    };
    budget.top(list)?;
    list.try_iter()?.map(text).collect::<Result<Vec<_>, _>>().map(Value::from)
}

fn pay_for_filter(budget: &Budget, name: &str, value: &Value, args: &[Value]) -> Result<(), Error> {
    let deep = |value: &Value, times: usize| (0..times).try_for_each(|_| budget.walk(value, true));
    match name {
        "length" | "first" | "last" | "default" | "attr" | "int" | "float" | "bool" | "round" | "abs" | "safe" => {
            budget.charge(NODE_BYTES + value.as_str().map_or(0, str::len))
        }
        "items" | "list" | "reverse" | "map" | "select" | "reject" | "selectattr" | "rejectattr" | "sum" => {
            budget.top(value)
        }
        "batch" | "slice" => {
            budget.top(value)?;
            let count = args.first().and_then(Value::as_usize).unwrap_or(0);
            budget.charge_product(2 * NODE_BYTES, count)
        }
        "sort" | "unique" | "groupby" | "dictsort" | "min" | "max" => deep(value, SORT_PASSES),
        "replace" => cost::replace(budget, value, args),
        "join" => cost::join(budget, value, args.first()),
        "indent" => cost::indent(budget, value, args),
        "format" => cost::format(budget, value, args),
        "split" | "lines" => cost::split(budget, value, args),
        "trim" => cost::strip(budget, value, args),
        // Changing case or escaping turns one character into at most six.
        _ => deep(value, 6),
    }
}

/// Python's methods of strings and dicts.
fn method(state: &State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let budget = Budget::from_state(state);
    let text = value.as_str();
    match (text, name) {
        // The original loops forever on an empty needle.
        (Some(text), "count") => {
            let [needle] = args else { return Err(invalid("count takes one text")) };
            let needle = needle.as_str().ok_or_else(|| invalid("count takes one text"))?;
            budget.charge(text.len() + needle.len())?;
            return Ok(Value::from(text.matches(needle).count()));
        }
        (Some(_), "replace") => cost::replace(&budget, value, args)?,
        // The string is the separator.
        (Some(_), "join") => {
            let [list] = args else { return Err(invalid("join takes one list")) };
            let list = list_of_texts(&budget, list)?;
            cost::join(&budget, &list, Some(value))?;
            let joined = minijinja_contrib::pycompat::unknown_method_callback(state, value, name, &[list])?;
            return budget.settle(joined);
        }
        (Some(_), "format") => cost::format(&budget, value, args)?,
        (Some(_), "split" | "splitlines") => cost::split(&budget, value, args)?,
        (Some(_), "strip" | "lstrip" | "rstrip") => cost::strip(&budget, value, args)?,
        (Some(text), _) => {
            budget.charge_product(text.len(), 6)?;
            args.iter().try_for_each(|value| budget.walk(value, true))?;
        }
        (None, "keys" | "values" | "items") => budget.top(value)?,
        (None, "get") => args.iter().take(1).try_for_each(|key| budget.walk(key, true))?,
        (None, _) => {
            budget.walk(value, true)?;
            args.iter().try_for_each(|value| budget.walk(value, true))?;
        }
    }
    let result = minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)?;
    if name == "get" { Ok(result) } else { budget.settle(result) }
}

/// `range` as a list in memory.
fn range(state: &State<'_, '_>, lower: i64, upper: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    let (start, stop) = upper.map_or((0, lower), |upper| (lower, upper));
    let (start, stop, step) = (i128::from(start), i128::from(stop), i128::from(step.unwrap_or(1)));
    let count = match step {
        0 => return Err(invalid("cannot create range with step of 0")),
        step if step > 0 => (stop - start + step - 1).max(0) / step,
        step => (start - stop - step - 1).max(0) / -step,
    };
    if count > MAX_RANGE {
        return Err(invalid("range has too many elements"));
    }
    Budget::from_state(state).charge_product(NODE_BYTES, usize::try_from(count).unwrap_or(0))?;
    let numbers = (0..count).filter_map(|index| i64::try_from(start + index * step).ok());
    Ok(Value::from(numbers.collect::<Vec<i64>>()))
}
