//! What filters and methods cost, charged before they run.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use crate::budget::{Budget, NODE_BYTES, invalid};

/// The widest field of a format, in characters.
const MAX_WIDTH: usize = 10_000;

pub(crate) fn replace(budget: &Budget, value: &Value, args: &[Value]) -> Result<(), Error> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (from, to) = (text(args.first()), text(args.get(1)));
    let value = value.as_str().unwrap_or_default();
    budget.charge(2 * value.len() + from.len() + to.len())?;
    budget.charge_product(to.len(), value.matches(from.as_str()).count())
}

pub(crate) fn join(budget: &Budget, list: &Value, separator: Option<&Value>) -> Result<(), Error> {
    budget.walk(list, true)?;
    let count = list.as_str().map(str::len).or_else(|| list.len()).unwrap_or(0);
    budget.charge_product(separator.and_then(Value::as_str).map_or(0, str::len), count)
}

pub(crate) fn indent(budget: &Budget, value: &Value, args: &[Value]) -> Result<(), Error> {
    let text = value.as_str().unwrap_or_default();
    // Given as a positional argument or as a keyword, in the last one.
    let named = args.last().filter(|last| last.kind() == ValueKind::Map).and_then(|last| last.get_attr("width").ok());
    let width = args.first().and_then(Value::as_usize).or_else(|| named.and_then(|width| width.as_usize()));
    budget.charge(2 * text.len())?;
    budget.charge_product(width.unwrap_or(4), text.matches('\n').count() + 2)
}

/// A format string may set any width and print each argument any number of times.
pub(crate) fn format(budget: &Budget, value: &Value, args: &[Value]) -> Result<(), Error> {
    let format = value.as_str().unwrap_or_default();
    budget.charge(format.len())?;
    let (widths, takes_widths) = widths(format)?;
    budget.charge(widths)?;
    let too_wide = |arg: &Value| arg.as_i64().is_some_and(|width| width.unsigned_abs() > MAX_WIDTH as u64);
    if takes_widths && args.iter().any(too_wide) {
        return Err(invalid(format!("a format of more than {MAX_WIDTH} places")));
    }
    let num_fields = format.matches(['%', '{']).count() + 1;
    budget.charge_product(if takes_widths { MAX_WIDTH } else { 0 }, num_fields)?;
    (0..num_fields).try_for_each(|_| args.iter().try_for_each(|value| budget.walk(value, true)))
}

/// The sum of a format's widths and precisions, and whether any is taken from its arguments (`*`).
///
/// # Errors
/// A width exceeds [`MAX_WIDTH`]. The standard library panics beyond 65,535.
fn widths(format: &str) -> Result<(usize, bool), Error> {
    #[derive(PartialEq)]
    enum State {
        Text,
        Percent,
        Key,
        Braces,
    }
    let (mut state, mut number, mut sum, mut takes) = (State::Text, 0_usize, 0_usize, false);
    let mut before = ' ';
    for c in format.chars() {
        state = match (state, c) {
            (State::Braces, '{') if before == '{' => State::Text,
            (_, '{') => State::Braces,
            (State::Braces, '}') => State::Text,
            (State::Text, '%') => State::Percent,
            (State::Percent, '(') => State::Key,
            (State::Key, ')') => State::Percent,
            (State::Percent, c) if c.is_alphabetic() || c == '%' => State::Text,
            (state, _) => state,
        };
        let counts = matches!(state, State::Percent | State::Braces);
        takes |= state == State::Percent && c == '*';
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

pub(crate) fn split(budget: &Budget, value: &Value, args: &[Value]) -> Result<(), Error> {
    let text = value.as_str().unwrap_or_default();
    budget.charge(2 * text.len())?;
    let separator = args.first().and_then(Value::as_str);
    let lines = text.matches(char::is_whitespace).count();
    let parts = separator.map_or(lines, |separator| text.matches(separator).count().max(lines));
    budget.charge_product(NODE_BYTES, parts + 1)
}

/// Each character at either end is compared with all characters to strip.
pub(crate) fn strip(budget: &Budget, value: &Value, args: &[Value]) -> Result<(), Error> {
    let characters = args.first().and_then(Value::as_str).map_or(1, str::len);
    budget.charge_product(value.as_str().map_or(0, str::len), characters.max(1))
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
