//! One direction of a chart: its range, its scale and its marks.

/// From values to places.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    /// Over some values, drawn between two places; with room at both ends where `room` says so.
    pub(super) fn new(values: impl Iterator<Item = f64>, log: bool, (from, to): (f64, f64), room: bool) -> Self {
        let scaled = values.map(|value| if log { value.max(1e-300).log10() } else { value });
        let (mut low, mut high) =
            scaled.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-9 * high.abs().max(1e-9) {
            let half = 0.5 * high.abs().max(if log { 1.0 } else { 1e-6 });
            (low, high) = (low - half, high + half);
        } else if room {
            let margin = 0.06 * (high - low);
            (low, high) = (low - margin, high + margin);
        }
        Self { low, high, log, from, to }
    }

    /// Where a value stands.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-300).log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values within the range.
    pub(super) fn marks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.low.floor() as i32)..=(self.high.ceil() as i32);
            let digits: &[f64] = if self.high - self.low < 1.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let all = decades.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
            let inside = |value: &f64| (self.low - 1e-9..=self.high + 1e-9).contains(&value.log10());
            return all.filter(inside).collect();
        }
        let step = round_up((self.high - self.low) / 6.0);
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        (first..=last).take(20).map(|k| k as f64 * step).collect()
    }
}

/// The next of 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= value).unwrap_or(10.0 * power)
}

/// A mark as text.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size < 1e-12 {
        return "0".to_owned();
    }
    if !(1e-3..1e5).contains(&size) {
        return format!("{value:.0e}").replace('-', "−");
    }
    let decimals = (2.0 - size.log10().floor()).clamp(0.0, 4.0) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_inside() {
        let axis = Axis::new([0.0, 64.0].into_iter(), false, (0.0, 1.0), false);
        assert_eq!(axis.marks(), [0.0, 20.0, 40.0, 60.0]);
        let decades = Axis::new([100.0, 10_000.0].into_iter(), true, (0.0, 2.0), false);
        assert_eq!(decades.marks(), [100.0, 1000.0, 10_000.0]);
        assert_eq!(decades.place(1000.0), 1.0);
        assert_eq!(number(-0.25), "−0.25");
    }
}
