//! Formats numbers.

use collimate_data::noun_for;
use serde_json::Value;

/// A figure with about four significant digits.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size < 1e-12 {
        "0".to_owned()
    } else if !(1e-3..1e6).contains(&size) {
        format!("{value:.2e}")
    } else {
        let decimals = (3.0 - size.log10().floor()).clamp(0.0, 5.0) as usize;
        without_trailing_zeros(&format!("{value:.decimals$}")).to_owned()
    }
}

/// A number as a recipe would have it: `5e-6`, `0.1`.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-2..1e6).contains(&size) { format!("{value}") } else { format!("{value:e}") }
}

/// A count with its noun.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{} {}", thousands(count), noun_for(count, noun))
}

/// A count with commas between thousands.
pub(crate) fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration to two units: `1 h 02 min`, `3 min 05 s`, `4.2 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{} s", number(seconds.max(0.0))),
        60..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {:02} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// The label of a tick: as short as possible, with a typographic minus.
pub(crate) fn mark_label(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        size if size < 1e-12 => "0".to_owned(),
        size if (1e-3..1e5).contains(&size) => number(value),
        _ => {
            let text = format!("{value:.2e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            format!("{}e{exponent}", without_trailing_zeros(mantissa))
        }
    };
    text.replace('-', "−")
}

fn without_trailing_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// The result before and after training as text, empty if absent. A value that is not a pair is the result after.
pub(crate) fn result_texts(name: &str, result: &Value) -> [String; 2] {
    let (before, after) = match result.as_object() {
        Some(pair) => (pair.get("before"), pair.get("after")),
        None => (None, Some(result)),
    };
    [before, after].map(|value| value.map(|value| result_text(name, value)).unwrap_or_default())
}

/// A result as text: in percent if its name says that it is a fraction.
pub(crate) fn result_text(name: &str, value: &Value) -> String {
    match value {
        Value::Number(figure) => {
            let figure = figure.as_f64().unwrap_or(f64::NAN);
            let is_share = name.contains("accura") || name.contains("rate");
            if is_share { format!("{:.1}%", 100.0 * figure) } else { number(figure) }
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0.0, "0")]
    #[case(2.0, "2")]
    #[case(0.125, "0.125")]
    #[case(-1234.5678, "-1235")]
    #[case(5e-6, "5.00e-6")]
    fn numbers_are_short(#[case] value: f64, #[case] expected: &str) {
        assert_eq!(number(value), expected);
    }

    #[test]
    fn counts_and_durations_are_legible() {
        assert_eq!([7, 1_234, 1_234_567].map(thousands), ["7", "1,234", "1,234,567"]);
        assert_eq!((plural(1, "step"), plural(0, "step")), ("1 step".to_owned(), "0 steps".to_owned()));
        let durations = [0.25, 59.4, 59.7, 185.0, 3_725.0, 90_000.0].map(duration);
        assert_eq!(durations, ["0.25 s", "59.4 s", "1 min 00 s", "3 min 05 s", "1 h 02 min", "1 d 01 h"]);
        assert_eq!([5e-6, 0.1, 1e-3, 2.0].map(short), ["5e-6", "0.1", "1e-3", "2"]);
    }

    #[rstest]
    #[case(-0.25, "−0.25")]
    #[case(40_000.0, "40000")]
    #[case(150_000.0, "1.5e5")]
    #[case(1e-4, "1e−4")]
    #[case(0.0, "0")]
    fn marks_are_shorter(#[case] value: f64, #[case] expected: &str) {
        assert_eq!(mark_label(value), expected);
    }
}
