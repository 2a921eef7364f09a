//! The engine's filters, tests, functions and methods behind a gate that pays for them.
//!
//! The original of each is kept under a name that no template can write; the gate pays, calls it, and pays for what it
//! gave.

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, State, Value, filters, functions, tests as engine_tests};

use super::budget::{Budget, NODE_BYTES, invalid};
use super::operators::keepable;
use super::printing::write_str;

/// Most elements of a `range`, as the engine has it.
const MAX_RANGE: i128 = 100_000;
/// The widest that a format may print a value, in characters.
const MAX_WIDTH: usize = 10_000;
/// Passes over the elements that sorting a list takes, at most.
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
            let budget = Budget::of(state);
            args.iter().try_for_each(|value| budget.walk(value, true))?;
            state.perform_test(concat!("\u{1}", stringify!($original)), &args)
        });
    )+ $env.add_test(concat!("\u{1}", stringify!($original)), engine_tests::$original); )+ };
}

/// Puts a gate before everything that the engine brings along.
pub(super) fn register(env: &mut Environment<'static>) {
    gate_filters!(env: lower, upper, title, capitalize, replace, length, dictsort, items, reverse, trim, join, split);
    gate_filters!(env: lines, default, round, abs, int, float, attr, first, last, min, max, sort, list, bool, batch);
    gate_filters!(env: slice, sum, indent, select, reject, selectattr, rejectattr, map, groupby, unique, format);
    gate_filters!(env: safe, escape);
    for (alias, name, original) in
        [("count", "length", "\u{1}length"), ("d", "default", "\u{1}default"), ("e", "escape", "\u{1}escape")]
    {
        env.add_filter(alias, move |state: &State<'_, '_>, args: Rest<Value>| filter(state, name, original, &args));
    }
    // Not of Jinja2, and lazy: each use would nest in the one before.
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
        args.iter().try_for_each(keepable)?;
        original(state, "\u{1}namespace", &args)
    });
    env.set_unknown_method_callback(method);
}

/// Calls one of the engine's own functions.
fn original(state: &State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
    let budget = Budget::of(state);
    args.iter().try_for_each(|value| budget.walk(value, true))?;
    state.lookup(name).ok_or_else(|| invalid("no such function"))?.call(state, args)
}

fn filter(state: &State<'_, '_>, name: &str, original: &str, args: &[Value]) -> Result<Value, Error> {
    let budget = Budget::of(state);
    let args = texts_of(&budget, name, args)?;
    if let Some((value, rest)) = args.split_first() {
        pay_for_filter(&budget, name, value, rest)?;
    }
    let result = state.apply_filter(original, &args)?;
    match name {
        // They give what they were given, or a part of it.
        "default" | "first" | "last" | "attr" => Ok(result),
        _ => budget.settle(result),
    }
}

/// The arguments with those as text that the filter would turn into text itself, unpaid.
fn texts_of(budget: &Budget, name: &str, args: &[Value]) -> Result<Vec<Value>, Error> {
    let is_text = |place: usize| match name {
        "replace" | "split" | "trim" => true,
        "join" => place == 1,
        "upper" | "lower" | "title" | "capitalize" | "lines" | "indent" | "safe" | "escape" => place == 0,
        _ => false,
    };
    let argument = |(place, value): (usize, &Value)| {
        if name == "join" && place == 0 {
            return texts_in(budget, value);
        }
        match is_text(place) && value.as_str().is_none() && !value.is_none() && !value.is_undefined() {
            // The number of splits is a number.
            true if name == "split" && place == 2 => Ok(value.clone()),
            true => write_str(budget, value).map(Value::from),
            false => Ok(value.clone()),
        }
    };
    args.iter().enumerate().map(argument).collect()
}

/// A list with its elements as text; anything else as it is.
fn texts_in(budget: &Budget, list: &Value) -> Result<Value, Error> {
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
        "replace" => pay_for_replace(budget, value, args),
        "join" => pay_for_join(budget, value, args.first()),
        "indent" => pay_for_indent(budget, value, args),
        "format" => pay_for_format(budget, value, args),
        "split" | "lines" => pay_for_split(budget, value, args),
        "trim" => pay_for_strip(budget, value, args),
        // Changes of case and escapes make a character at most six.
        _ => deep(value, 6),
    }
}

/// The unknown methods of the engine are Python's.
fn method(state: &State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let budget = Budget::of(state);
    let text = value.as_str();
    match (text, name) {
        // The original never ends on an empty needle.
        (Some(text), "count") => {
            let [needle] = args else { return Err(invalid("count takes one text")) };
            let needle = needle.as_str().ok_or_else(|| invalid("count takes one text"))?;
            budget.charge(text.len() + needle.len())?;
            return Ok(Value::from(text.matches(needle).count()));
        }
        (Some(_), "replace") => pay_for_replace(&budget, value, args)?,
        // The separator is the text itself.
        (Some(_), "join") => {
            let [list] = args else { return Err(invalid("join takes one list")) };
            let list = texts_in(&budget, list)?;
            pay_for_join(&budget, &list, Some(value))?;
            let joined = minijinja_contrib::pycompat::unknown_method_callback(state, value, name, &[list])?;
            return budget.settle(joined);
        }
        (Some(_), "format") => pay_for_format(&budget, value, args)?,
        (Some(_), "split" | "splitlines") => pay_for_split(&budget, value, args)?,
        (Some(_), "strip" | "lstrip" | "rstrip") => pay_for_strip(&budget, value, args)?,
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

fn pay_for_replace(budget: &Budget, value: &Value, args: &[Value]) -> Result<(), Error> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (from, to) = (text(args.first()), text(args.get(1)));
    let value = value.as_str().unwrap_or_default();
    budget.charge(2 * value.len() + from.len() + to.len())?;
    budget.charge_product(to.len(), value.matches(from.as_str()).count())
}

fn pay_for_join(budget: &Budget, list: &Value, separator: Option<&Value>) -> Result<(), Error> {
    budget.walk(list, true)?;
    let count = list.as_str().map(str::len).or_else(|| list.len()).unwrap_or(0);
    budget.charge_product(separator.and_then(Value::as_str).map_or(0, str::len), count)
}

fn pay_for_indent(budget: &Budget, value: &Value, args: &[Value]) -> Result<(), Error> {
    let text = value.as_str().unwrap_or_default();
    // By place, or by name in the last argument.
    let named = args.last().filter(|last| last.kind() == ValueKind::Map).and_then(|last| last.get_attr("width").ok());
    let width = args.first().and_then(Value::as_usize).or_else(|| named.and_then(|width| width.as_usize()));
    budget.charge(2 * text.len())?;
    budget.charge_product(width.unwrap_or(4), text.matches('\n').count() + 2)
}

/// A format may ask for any width and print each argument any number of times.
fn pay_for_format(budget: &Budget, value: &Value, args: &[Value]) -> Result<(), Error> {
    let format = value.as_str().unwrap_or_default();
    budget.charge(format.len())?;
    let (widths, takes_widths) = widths(format)?;
    budget.charge(widths)?;
    let too_wide = |arg: &Value| arg.as_i64().is_some_and(|width| width.unsigned_abs() > MAX_WIDTH as u64);
    if takes_widths && args.iter().any(too_wide) {
        return Err(invalid(format!("a format of more than {MAX_WIDTH} places")));
    }
    let places = format.matches(['%', '{']).count() + 1;
    budget.charge_product(if takes_widths { MAX_WIDTH } else { 0 }, places)?;
    (0..places).try_for_each(|_| args.iter().try_for_each(|value| budget.walk(value, true)))
}

/// The sum of the widths and precisions that a format asks for, and whether it takes any from its arguments (`*`).
///
/// # Errors
/// Where one is wider than [`MAX_WIDTH`]: beyond 65,535 the standard library panics.
fn widths(format: &str) -> Result<(usize, bool), Error> {
    #[derive(PartialEq)]
    enum Place {
        Text,
        Percent,
        Key,
        Braces,
    }
    let (mut place, mut number, mut sum, mut takes) = (Place::Text, 0_usize, 0_usize, false);
    let mut before = ' ';
    for c in format.chars() {
        place = match (place, c) {
            (Place::Braces, '{') if before == '{' => Place::Text,
            (_, '{') => Place::Braces,
            (Place::Braces, '}') => Place::Text,
            (Place::Text, '%') => Place::Percent,
            (Place::Percent, '(') => Place::Key,
            (Place::Key, ')') => Place::Percent,
            (Place::Percent, c) if c.is_alphabetic() || c == '%' => Place::Text,
            (place, _) => place,
        };
        let counts = matches!(place, Place::Percent | Place::Braces);
        takes |= place == Place::Percent && c == '*';
        number = match c.to_digit(10).filter(|_| counts) {
            Some(digit) => number.saturating_mul(10).saturating_add(digit as usize),
            None => 0,
        };
        if number > MAX_WIDTH {
            return Err(invalid(format!("a format of more than {MAX_WIDTH} places")));
        }
        sum = sum.saturating_add(number);
        before = c;
    }
    Ok((sum, takes))
}

fn pay_for_split(budget: &Budget, value: &Value, args: &[Value]) -> Result<(), Error> {
    let text = value.as_str().unwrap_or_default();
    budget.charge(2 * text.len())?;
    let separator = args.first().and_then(Value::as_str);
    let lines = text.matches(char::is_whitespace).count();
    let parts = separator.map_or(lines, |separator| text.matches(separator).count().max(lines));
    budget.charge_product(NODE_BYTES, parts + 1)
}

/// Every character is looked for among those that are to be taken away.
fn pay_for_strip(budget: &Budget, value: &Value, args: &[Value]) -> Result<(), Error> {
    let characters = args.first().and_then(Value::as_str).map_or(1, str::len);
    budget.charge_product(value.as_str().map_or(0, str::len), characters.max(1))
}

/// `range`, as a list.
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
    Budget::of(state).charge_product(NODE_BYTES, usize::try_from(count).unwrap_or(0))?;
    let numbers = (0..count).filter_map(|place| i64::try_from(start + place * step).ok());
    Ok(Value::from(numbers.collect::<Vec<i64>>()))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("%s on 20240706", Ok((0, false)))]
    #[case("%5.2f%%20240706", Ok((5 + 2, false)))]
    #[case("%(key99999)7d", Ok((7, false)))]
    #[case("**%d**", Ok((0, false)))]
    #[case("%-*d", Ok((0, true)))]
    #[case("{:>8} {{20240706}}", Ok((8, false)))]
    #[case("{0:.10000f}", Ok((1 + 10 + 100 + 1000 + 10_000, false)))]
    #[case("%5.65536f", Err(()))]
    #[case("{:>99999999999999999999999}", Err(()))]
    #[case("{a:10001}", Err(()))]
    fn widths_are_those_of_the_format_only(#[case] format: &str, #[case] expected: Result<(usize, bool), ()>) {
        assert_eq!(widths(format).map_err(|_| ()), expected);
    }
}
