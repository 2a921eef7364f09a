//! Sizes, counts, rates and times for people.

/// A number of bytes: `12.5 MiB`, `3.0 GiB`.
pub fn format_bytes(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1024.0 { format!("{mib:.1} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

/// A count with thousands separated: `134,515,008`.
pub fn format_count(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in a suitable unit: `8.5 s`, `42 s`, `12 min`, `3.5 h`, `2.1 days`.
pub fn format_seconds(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 119.5 => format!("{s:.0} s"),
        s if s < 7170.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// Three digits, with a suffix for thousands and millions: `2.04`, `20.4`, `204`, `1.23k`.
pub(crate) fn three_digits(value: f64) -> String {
    // The limits are where rounding would give a fourth digit.
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v if v < 999.5 => format!("{v:.0}"),
        v if v < 999_500.0 => format!("{}k", three_digits(v / 1e3)),
        v => format!("{}M", three_digits(v / 1e6)),
    }
}

/// The speed of steps: `20.4 steps/s`, or `4.10 s/step` if a step takes longer than a second.
pub(crate) fn step_rate(step_seconds: f64) -> String {
    match step_seconds > 1.0 {
        true => format!("{} s/step", three_digits(step_seconds)),
        false => format!("{} steps/s", three_digits(1.0 / step_seconds.max(1e-9))),
    }
}

/// The speed of a stage's items: `243/s`, or `4.10 s each`.
pub(crate) fn item_rate(items: u64, seconds: f64) -> String {
    let rate = items as f64 / seconds.max(1e-9);
    match rate < 1.0 {
        true => format!("{} s each", three_digits(1.0 / rate)),
        false => format!("{}/s", three_digits(rate)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0.0, "0.00")]
    #[case(2.0449, "2.04")]
    #[case(9.996, "10.0")]
    #[case(20.43, "20.4")]
    #[case(99.96, "100")]
    #[case(203.6, "204")]
    #[case(999.6, "1.00k")]
    #[case(1234.0, "1.23k")]
    #[case(75_550.0, "75.5k")]
    #[case(999_600.0, "1.00M")]
    #[case(1_186_052.0, "1.19M")]
    fn a_rate_has_three_digits(#[case] value: f64, #[case] expected: &str) {
        assert_eq!(three_digits(value), expected);
    }

    #[rstest]
    #[case(0.05, "20.0 steps/s")]
    #[case(1.0, "1.00 steps/s")]
    #[case(4.1, "4.10 s/step")]
    #[case(340.0, "340 s/step")]
    fn slow_steps_are_given_in_seconds(#[case] step_seconds: f64, #[case] expected: &str) {
        assert_eq!(step_rate(step_seconds), expected);
    }

    #[rstest]
    #[case(13, 2.0, "6.50/s")]
    #[case(3, 12.3, "4.10 s each")]
    fn so_are_slow_items(#[case] items: u64, #[case] seconds: f64, #[case] expected: &str) {
        assert_eq!(item_rate(items, seconds), expected);
    }

    #[rstest]
    #[case(0.04, "0.0 s")]
    #[case(9.96, "10 s")]
    #[case(119.0, "119 s")]
    #[case(119.9, "2 min")]
    #[case(7190.0, "2.0 h")]
    #[case(200_000.0, "2.3 days")]
    fn durations_have_a_suitable_unit(#[case] seconds: f64, #[case] expected: &str) {
        assert_eq!(format_seconds(seconds), expected);
    }
}
