//! An axis of a chart: range, scale and ticks.

use crate::numbers::mark_label;

/// Maps values to positions in the drawing.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    /// Minimum distance between two ticks.
    min_step: f64,
    span: Span,
}

/// How values are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    /// By the logarithm.
    Log,
    /// By the logarithm of one more than the value, for counts that begin at zero.
    LogFromZero,
}

impl Scale {
    fn transform(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(SMALLEST).log10(),
            Self::LogFromZero => value.max(0.0).ln_1p() / std::f64::consts::LN_10,
        }
    }
}

/// The positions between which an axis is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: f64,
    pub(super) to: f64,
}

/// Replaces values that have no logarithm.
const SMALLEST: f64 = 1e-300;

impl Axis {
    /// An axis over all values.
    pub(super) fn linear(values: impl Iterator<Item = f64>, span: Span) -> Self {
        // A constant line runs through the middle.
        let (low, high) = range(values, |value| 0.1 * value.abs().max(1e-6));
        Self { low, high, scale: Scale::Linear, min_step: 0.0, span }
    }

    /// Like [`Self::linear`], on a logarithmic scale.
    pub(super) fn log(values: impl Iterator<Item = f64>, span: Span) -> Self {
        let logs = values.map(|value| Scale::Log.transform(value));
        let (low, high) = range(logs, |value| 0.5 * value.abs().max(1.0));
        Self { low, high, scale: Scale::Log, min_step: 0.0, span }
    }

    /// Like [`Self::whole`], on a logarithmic scale that has room for zero.
    pub(super) fn log_from_zero(values: impl Iterator<Item = f64>, span: Span) -> Self {
        let (low, high) = range(values.map(|value| Scale::LogFromZero.transform(value)), |_| 0.1);
        Self { low, high, scale: Scale::LogFromZero, min_step: 1.0, span }
    }

    /// Like [`Self::linear`], with ticks at whole numbers only.
    pub(super) fn whole(values: impl Iterator<Item = f64>, span: Span) -> Self {
        Self { min_step: 1.0, ..Self::linear(values, span) }
    }

    /// The axis with a margin at both ends.
    pub(super) fn with_margin(self) -> Self {
        let margin = 0.06 * (self.high - self.low);
        Self { low: self.low - margin, high: self.high + margin, ..self }
    }

    /// The position of a value.
    pub(super) fn position(&self, value: f64) -> f64 {
        let Span { from, to } = self.span;
        from + (self.scale.transform(value) - self.low) / (self.high - self.low) * (to - from)
    }

    /// Distance between two ticks of a linear axis.
    fn step(&self) -> f64 {
        round_up((self.high - self.low) / 6.0).max(self.min_step)
    }

    /// The label of a tick, with the digits that tell it from its neighbors.
    pub(super) fn label(&self, value: f64) -> String {
        let size = value.abs();
        let decimals = -self.step().log10().floor();
        if self.scale != Scale::Linear || !(1e-3..1e5).contains(&size) || !(1.0..=9.0).contains(&decimals) {
            return mark_label(value);
        }
        let text = format!("{value:.0$}", decimals as usize);
        text.trim_end_matches('0').trim_end_matches('.').replace('-', "−")
    }

    /// Round values within the range, for ticks.
    pub(super) fn marks(&self) -> Vec<f64> {
        if self.scale != Scale::Linear {
            let decades = (self.low.floor() as i32)..=(self.high.ceil() as i32);
            let digits: &[f64] = if self.high - self.low < 1.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let all = decades.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
            let zero = (self.scale == Scale::LogFromZero).then_some(0.0);
            let inside = |value: &f64| {
                let is_whole = *value == 0.0 || *value >= self.min_step;
                is_whole && (self.low - 1e-9..=self.high + 1e-9).contains(&self.scale.transform(*value))
            };
            return zero.into_iter().chain(all).filter(inside).collect();
        }
        let step = self.step();
        let (first, last) = ((self.low / step).ceil() as i64, (self.high / step).floor() as i64);
        (first..=last).take(20).map(|k| k as f64 * step).collect()
    }
}

/// Differences below this are what rounding leaves of zero, in every figure of a run.
const NOISE: f64 = 1e-12;

/// The range of the values: widened by `half` on both sides if it is a single value, [0, 1] if there is none.
fn range(values: impl Iterator<Item = f64>, half: impl Fn(f64) -> f64) -> (f64, f64) {
    let ends = values.fold(None, |ends: Option<(f64, f64)>, value| {
        Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    });
    match ends {
        None => (0.0, 1.0),
        // What rounding leaves of equal values is no range.
        Some((low, high)) if high - low < (1e-9 * high.abs().max(low.abs())).max(NOISE) => {
            (low - half(high), high + half(high))
        }
        Some(ends) => ends,
    }
}

/// Rounds up to 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|digit| digit * power).find(|step| *step >= value).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0.3, 0.5)]
    #[case(1.0, 1.0)]
    #[case(60.0, 100.0)]
    fn steps_are_round(#[case] value: f64, #[case] step: f64) {
        assert!((round_up(value) - step).abs() < 1e-12);
    }

    #[test]
    fn marks_are_round_and_inside() {
        let axis = Axis::linear([0.0, 64.0].into_iter(), Span { from: 0.0, to: 1.0 });
        assert_eq!(axis.marks(), [0.0, 20.0, 40.0, 60.0]);
        let decades = Axis::log([100.0, 10_000.0].into_iter(), Span { from: 0.0, to: 2.0 });
        assert_eq!(decades.marks(), [100.0, 1000.0, 10_000.0]);
        assert_eq!(decades.position(1000.0), 1.0);
    }

    #[test]
    fn a_logarithmic_axis_of_steps_has_a_place_for_zero() {
        let axis = Axis::log_from_zero([0.0, 999.0].into_iter(), Span { from: 0.0, to: 3.0 });
        assert_eq!(axis.marks(), [0.0, 1.0, 10.0, 100.0]);
        assert_eq!((axis.position(0.0), axis.position(9.0)), (0.0, 1.0));
        let close = Axis::log_from_zero([3.0, 8.0].into_iter(), Span { from: 0.0, to: 1.0 });
        assert_eq!(close.marks(), [5.0]);
    }

    #[test]
    fn labels_of_neighbors_differ() {
        let labels = |low: f64, high: f64| {
            let axis = Axis::linear([low, high].into_iter(), Span { from: 0.0, to: 1.0 });
            axis.marks().into_iter().map(|mark| axis.label(mark)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(1.3843, 1.3866), "1.3845 1.385 1.3855 1.386 1.3865");
        assert_eq!(labels(-1.0, 1.5), "−1 −0.5 0 0.5 1 1.5");
        assert_eq!(labels(0.0, 64.0), "0 20 40 60");
        assert_eq!(labels(0.0, 1.1e-4), "0 2e−5 4e−5 6e−5 8e−5 1e−4");
    }

    #[test]
    fn what_rounding_leaves_of_zero_stands_at_zero() {
        let axis = Axis::linear([0.0, 3e-17].into_iter(), Span { from: 0.0, to: 100.0 });
        assert!((axis.position(3e-17) - axis.position(0.0)).abs() < 1e-6);
        let marks: Vec<_> = axis.marks().into_iter().map(|mark| axis.label(mark)).collect();
        assert!(marks.iter().filter(|mark| *mark == "0").count() == 1, "{marks:?}");
    }

    #[test]
    fn marks_of_steps_are_whole() {
        let marks = |values: &[f64]| Axis::whole(values.iter().copied(), Span { from: 0.0, to: 1.0 }).marks();
        assert_eq!(marks(&[1.0, 3.0]), [1.0, 2.0, 3.0]);
        assert_eq!(marks(&[5.0]), [5.0]);
    }
}
