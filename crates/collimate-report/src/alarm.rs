//! Warns if the chosen responses lose likelihood, which purely comparative objectives permit.

use std::collections::VecDeque;

use collimate_recipe::Recipe;

use crate::metrics::{CHOSEN_LOG_RATIO, MetricsRow};

/// Recorded steps to average over, since one bad step is no trend.
const WINDOW: usize = 10;

/// Tracks how far the mean log-prob of the chosen responses falls below the reference's.
#[derive(Debug, Clone)]
pub struct ChosenAlarm {
    /// Fall in nats that triggers the next warning; doubled each time. Infinite if warnings are off.
    next: f64,
    window: VecDeque<f64>,
}

impl ChosenAlarm {
    /// Warns at a fall of `threshold` nats, and again each time the fall has doubled; never if the threshold is zero.
    pub fn new(threshold: f64) -> Self {
        Self { next: if threshold > 0.0 { threshold } else { f64::INFINITY }, window: VecDeque::new() }
    }

    /// Feeds one row; returns a warning when the threshold is crossed.
    pub fn feed(&mut self, row: &MetricsRow) -> Option<String> {
        let value = row.get(CHOSEN_LOG_RATIO)?;
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
             steps, at step {step}; a smaller learning rate or a larger beta slows the fall, \
             an objective that fixes each response's likelihood prevents it"
        ))
    }

    /// The last warning of a run, by the threshold in its recipe.
    pub fn last_warning_of_run(rows: &[MetricsRow], recipe_yaml: &str) -> Option<String> {
        let recipe: serde_yaml_ng::Value = serde_yaml_ng::from_str(recipe_yaml).ok()?;
        let threshold = recipe.get("alarm_chosen_drop").and_then(serde_yaml_ng::Value::as_f64);
        Self::last_warning(rows, threshold.unwrap_or(Recipe::default().alarm_chosen_drop))
    }

    /// The last warning about these rows.
    pub fn last_warning(rows: &[MetricsRow], threshold: f64) -> Option<String> {
        let mut alarm = Self::new(threshold);
        rows.iter().filter_map(|row| alarm.feed(row)).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: impl IntoIterator<Item = f64>) -> Vec<MetricsRow> {
        let row = |(step, value): (usize, f64)| {
            let mut row = MetricsRow::default();
            row.set_count("step", step as u64 + 1);
            row.set(CHOSEN_LOG_RATIO, value);
            row
        };
        values.into_iter().enumerate().map(row).collect()
    }

    #[test]
    fn it_warns_at_the_threshold_and_again_at_twice_as_much() {
        let mut alarm = ChosenAlarm::new(3.0);
        let falling = rows((0..40).map(|step| -0.5 * step as f64));
        let warnings: Vec<_> = falling.iter().filter_map(|row| alarm.feed(row)).collect();
        // The mean of ten steps trails by 4.5 of them: 3, 6 and 12 nats at steps 11.5, 17.5 and 29.5.
        let expected = ["3.2 nats below the reference in the mean of 10 recorded steps, at step 12", "6.2", "12.2"];
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        assert!(warnings.iter().zip(expected).all(|(warning, part)| warning.contains(part)), "{warnings:?}");
    }

    #[test]
    fn it_is_silent_without_a_fall_a_threshold_or_a_reference() {
        assert_eq!(ChosenAlarm::last_warning(&rows([1.0; 30]), 3.0), None);
        assert_eq!(ChosenAlarm::last_warning(&rows([-100.0; 30]), 0.0), None);
        assert_eq!(ChosenAlarm::last_warning(&vec![MetricsRow::default(); 30], 3.0), None);
        assert_eq!(ChosenAlarm::last_warning(&rows((0..30).map(|i| if i == 15 { -20.0 } else { 0.0 })), 3.0), None);
    }
}
