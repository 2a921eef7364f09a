//! The alarm when the chosen responses lose likelihood: the failure of DPO that NCA is made against.

use std::collections::VecDeque;

use crate::metrics::MetricsRow;

/// Recorded steps that the mean is taken over.
const WINDOW: usize = 10;
/// The figure of a row that is watched, in nats.
pub(crate) const FIGURE: &str = "log_ratios/chosen";

/// Watches how far the chosen responses' mean log-prob has fallen below the reference's.
#[derive(Debug, Clone)]
pub(crate) struct ChosenAlarm {
    /// Nats of fall at which it speaks; it speaks again at twice as many. Infinite where it never does.
    next: f64,
    window: VecDeque<f64>,
}

impl ChosenAlarm {
    /// Speaks at a fall of `threshold` nats; never where that is zero.
    pub(crate) fn new(threshold: f64) -> Self {
        Self { next: if threshold > 0.0 { threshold } else { f64::INFINITY }, window: VecDeque::new() }
    }

    /// Hears the rows of a run in their order; what it has to say, for people.
    pub(crate) fn hear(&mut self, row: &MetricsRow) -> Option<String> {
        let value = row.get(FIGURE)?;
        self.window.push_back(value);
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        let fall = -self.window.iter().sum::<f64>() / self.window.len() as f64;
        if self.window.len() < WINDOW || fall < self.next {
            return None;
        }
        while self.next <= fall {
            self.next *= 2.0;
        }
        let step = row.get("step").unwrap_or(f64::NAN);
        Some(format!(
            "the chosen responses lose likelihood: {fall:.1} nats below the reference in the mean of {WINDOW} recorded \
             steps, at step {step}; nca holds it, a smaller learning rate or a larger beta slows the fall"
        ))
    }

    /// The last thing that it says of a run's rows.
    pub(crate) fn of_rows(rows: &[MetricsRow], threshold: f64) -> Option<String> {
        let mut alarm = Self::new(threshold);
        rows.iter().filter_map(|row| alarm.hear(row)).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: impl IntoIterator<Item = f64>) -> Vec<MetricsRow> {
        let row = |(step, value): (usize, f64)| {
            let mut row = MetricsRow::default();
            row.set_count("step", step as u64 + 1);
            row.set(FIGURE, value);
            row
        };
        values.into_iter().enumerate().map(row).collect()
    }

    #[test]
    fn it_speaks_at_the_threshold_and_again_at_twice_as_much() {
        let mut alarm = ChosenAlarm::new(3.0);
        let falling = rows((0..40).map(|step| -0.5 * step as f64));
        let said: Vec<_> = falling.iter().filter_map(|row| alarm.hear(row)).collect();
        // The mean of ten steps trails by 4.5 of them: 3, 6 and 12 nats at steps 11.5, 17.5 and 29.5.
        let expected = ["3.2 nats below the reference in the mean of 10 recorded steps, at step 12", "6.2", "12.2"];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        assert!(said.iter().zip(expected).all(|(said, part)| said.contains(part)), "{said:?}");
    }

    #[test]
    fn it_is_silent_without_a_fall_a_threshold_or_a_reference() {
        assert_eq!(ChosenAlarm::of_rows(&rows([1.0; 30]), 3.0), None);
        assert_eq!(ChosenAlarm::of_rows(&rows([-100.0; 30]), 0.0), None);
        assert_eq!(ChosenAlarm::of_rows(&vec![MetricsRow::default(); 30], 3.0), None);
        // One bad step is no trend.
        assert_eq!(ChosenAlarm::of_rows(&rows((0..30).map(|i| if i == 15 { -20.0 } else { 0.0 })), 3.0), None);
    }
}
