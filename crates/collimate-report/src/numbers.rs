//! Formats numbers.

use serde_json::Value;

/// A figure with about four significant digits.
pub(crate) fn number(value: f64) -> String {
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
