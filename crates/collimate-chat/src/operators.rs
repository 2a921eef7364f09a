//! Python's operators that can grow or walk a value, as filters that pay before they run.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, State, Value};

use crate::budget::{Budget, NODE_BYTES, invalid, is_container};
use crate::printing::write_str;

pub(crate) const ADD: &str = "paid_add";
pub(crate) const MULTIPLY: &str = "paid_multiply";
pub(crate) const CONCATENATE: &str = "paid_concatenate";
pub(crate) const SLICE: &str = "paid_slice";
/// Returns its operand, a new list or map.
pub(crate) const NEW: &str = "paid_new";
/// Returns its operand, which is about to be compared in full.
pub(crate) const READ: &str = "paid_read";
/// Returns its operand, one of whose elements is about to be looked up.
pub(crate) const INDEX: &str = "paid_index";
/// Returns its operand, which is about to be stored in a namespace.
pub(crate) const STORE: &str = "paid_store";

/// Adds the operators that [`crate::source`] inserts into templates. A template may also name them: they pay either way.
pub(crate) fn register(env: &mut Environment<'static>) {
    env.add_filter(ADD, add);
    env.add_filter(MULTIPLY, multiply);
    env.add_filter(CONCATENATE, concatenate);
    env.add_filter(SLICE, slice);
    env.add_filter(NEW, |state: &State<'_, '_>, value: Value| {
        Budget::from_state(state).walk(&value, false)?;
        Ok::<_, Error>(value)
    });
    env.add_filter(READ, |state: &State<'_, '_>, value: Value| {
        Budget::from_state(state).walk(&value, true)?;
        Ok::<_, Error>(value)
    });
    env.add_filter(INDEX, |state: &State<'_, '_>, value: Value| {
        // Indexing a string counts characters from its start.
        Budget::from_state(state).charge(value.as_str().map_or(0, str::len))?;
        Ok::<_, Error>(value)
    });
    env.add_filter(STORE, |state: &State<'_, '_>, value: Value| {
        Budget::from_state(state).walk(&value, false)?;
        storable(&value)?;
        Ok::<_, Error>(value)
    });
}

/// Rejects values through which a namespace could contain itself: comparing or printing it would never end, and its
/// memory would never be freed.
pub(crate) fn storable(value: &Value) -> Result<(), Error> {
    let Some(object) = value.as_object() else { return Ok(()) };
    let name = object.type_name();
    if ["Namespace", "Macro", "Loop", "Closure"].iter().any(|kind| name.ends_with(kind)) {
        return Err(invalid("a namespace keeps plain values only, no namespace, macro or loop"));
    }
    if !is_container(value) {
        return Ok(());
    }
    // Its depth and size were checked when it was created.
    if value.kind() == ValueKind::Map {
        return object.try_iter_pairs().into_iter().flatten().try_for_each(|(_, item)| storable(&item));
    }
    object.try_iter().into_iter().flatten().try_for_each(|item| storable(&item))
}

/// Two numbers converted to a common type, by the engine's rules.
enum Numbers {
    Whole(i128, i128),
    Floats(f64, f64),
}

fn numbers(a: &Value, b: &Value) -> Option<Numbers> {
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    let whole = |value: &Value| match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        _ => value.is_integer().then(|| i128::try_from(value.clone()).ok()).flatten(),
    };
    let float = |value: &Value| whole(value).map(|number| number as f64).or_else(|| f64::try_from(value.clone()).ok());
    if !is_number(a) || !is_number(b) {
        return None;
    }
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(Numbers::Whole(a, b)),
        _ => Some(Numbers::Floats(float(a)?, float(b)?)),
    }
}

fn whole(number: Option<i128>) -> Result<Value, Error> {
    let number = number.ok_or_else(|| invalid("the result is too large a number"))?;
    Ok(i64::try_from(number).map_or_else(|_| Value::from(number), Value::from))
}

fn unsupported(operator: &str, a: &Value, b: &Value) -> Error {
    invalid(format!("tried to use {operator} operator on unsupported types {} and {}", a.kind(), b.kind()))
}

fn add(state: &State<'_, '_>, a: &Value, b: &Value) -> Result<Value, Error> {
    let budget = Budget::from_state(state);
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        budget.charge(a.len() + b.len())?;
        return Ok(Value::from([a, b].concat()));
    }
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if is_list(a) && is_list(b) {
        budget.top(a)?;
        budget.top(b)?;
        return budget.settle(Value::from(a.try_iter()?.chain(b.try_iter()?).collect::<Vec<_>>()));
    }
    match numbers(a, b) {
        Some(Numbers::Whole(a, b)) => whole(a.checked_add(b)),
        Some(Numbers::Floats(a, b)) => Ok(Value::from(a + b)),
        None => Err(unsupported("+", a, b)),
    }
}

fn multiply(state: &State<'_, '_>, a: &Value, b: &Value) -> Result<Value, Error> {
    match numbers(a, b) {
        Some(Numbers::Whole(a, b)) => return whole(a.checked_mul(b)),
        Some(Numbers::Floats(a, b)) => return Ok(Value::from(a * b)),
        None => {}
    }
    let repeats = |value: &Value| value.is_integer().then(|| value.as_i64()).flatten();
    let (value, times) = match (repeats(a), repeats(b)) {
        (_, Some(times)) => (a, times),
        (Some(times), _) => (b, times),
        _ => return Err(unsupported("*", a, b)),
    };
    let (budget, times) = (Budget::from_state(state), usize::try_from(times).unwrap_or(0));
    if let Some(text) = value.as_str() {
        budget.charge_product(text.len(), times)?;
        return Ok(Value::from(text.repeat(times)));
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(unsupported("*", a, b));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    budget.charge_product(NODE_BYTES * items.len().max(1), times)?;
    let repeated: Vec<Value> = (0..times).flat_map(|_| items.iter().cloned()).collect();
    budget.settle(Value::from(repeated))
}

/// `~`: concatenates both operands as strings.
fn concatenate(state: &State<'_, '_>, a: &Value, b: &Value) -> Result<Value, Error> {
    let budget = Budget::from_state(state);
    let mut text = write_str(&budget, a)?;
    text.push_str(&write_str(&budget, b)?);
    Ok(Value::from(text))
}

/// `value[start:stop:step]` of a string or list, as in Python.
fn slice(state: &State<'_, '_>, value: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value, Error> {
    let budget = Budget::from_state(state);
    let end = |value: &Value| match value.is_none() {
        true => Ok(None),
        false => value.as_i64().map(Some).ok_or_else(|| invalid("the ends and the step of a slice are whole numbers")),
    };
    let (start, stop, step) = (end(start)?, end(stop)?, end(step)?.unwrap_or(1));
    if step == 0 {
        return Err(invalid("cannot slice by step size of 0"));
    }
    budget.top(value)?;
    if let Some(text) = value.as_str() {
        let characters: Vec<char> = text.chars().collect();
        let cut = indices(characters.len(), start, stop, step).map(|index| characters[index]);
        return Ok(Value::from(cut.collect::<String>()));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let cut: Vec<Value> = indices(items.len(), start, stop, step).map(|index| items[index].clone()).collect();
            Ok(Value::from(cut))
        }
        ValueKind::Undefined | ValueKind::None => Ok(Value::from(Vec::<Value>::new())),
        kind => Err(invalid(format!("value of type {kind} cannot be sliced"))),
    }
}

/// The indices that a slice selects, all below `len`.
fn indices(len: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let len = i128::try_from(len).unwrap_or(i128::MAX);
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamped = |end: i64| {
        let end = i128::from(end);
        (if end < 0 { end + len } else { end }).clamp(lowest, highest)
    };
    let (first, last) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    let (start, stop) = (start.map_or(first, clamped), stop.map_or(last, clamped));
    let step = i128::from(step);
    std::iter::successors(Some(start), move |index| Some(index + step))
        .take_while(move |index| if step > 0 { *index < stop } else { *index > stop })
        .filter_map(|index| usize::try_from(index).ok())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(None, None, 1, &[0, 1, 2, 3, 4])]
    #[case(Some(1), Some(-1), 1, &[1, 2, 3])]
    #[case(None, None, -1, &[4, 3, 2, 1, 0])]
    #[case(Some(0), Some(2), -1, &[])]
    #[case(Some(3), Some(0), -2, &[3, 1])]
    #[case(Some(-99), Some(99), 2, &[0, 2, 4])]
    #[case(Some(99), Some(-99), -3, &[4, 1])]
    #[case(Some(i64::MIN), Some(i64::MAX), i64::MAX, &[0])]
    #[case(None, None, i64::MIN, &[4])]
    fn a_slice_selects_the_indices_that_python_selects(
        #[case] start: Option<i64>,
        #[case] stop: Option<i64>,
        #[case] step: i64,
        #[case] expected: &[usize],
    ) {
        assert_eq!(indices(5, start, stop, step).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_slice_of_nothing_is_empty() {
        assert_eq!(indices(0, None, None, -1).count() + indices(0, Some(-1), Some(1), 1).count(), 0);
    }
}
