//! Warns if the chosen responses lose likelihood, which purely comparative objectives permit.

use std::collections::VecDeque;

use crate::metrics::{CHOSEN_LOG_RATIO, MetricsRow};
use crate::verdict::RunFacts;

/// Recorded steps to average over, since one bad step is no trend.
const WINDOW: usize = 10;

/// Tracks how far the mean log-prob of the chosen responses falls below the reference's.
#[derive(Debug, Clone)]
pub struct ChosenAlarm {
    /// Fall in nats that triggers the next warning; doubled each time. Infinite if warnings are off.
    next: f64,
    window: VecDeque<f64>,
    advice: String,
}

impl ChosenAlarm {
    /// Warns at the fall that the facts name, and again each time the fall has doubled; never if it is zero.
    pub fn new(facts: &RunFacts) -> Self {
        let threshold = facts.alarm_chosen_drop;
        let next = if threshold > 0.0 { threshold } else { f64::INFINITY };
        Self { next, window: VecDeque::new(), advice: advice(facts) }
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
             steps, at step {step}; {}",
            self.advice
        ))
    }

    /// The last warning about these rows.
    pub fn last_warning(rows: &[MetricsRow], facts: &RunFacts) -> Option<String> {
        let mut alarm = Self::new(facts);
        rows.iter().filter_map(|row| alarm.feed(row)).last()
    }
}

/// What slows or prevents the fall. Who uses an objective that holds the likelihood is not advised to use one.
fn advice(facts: &RunFacts) -> String {
    let slower = std::iter::once(facts.lower_rate()).chain(facts.larger_beta());
    let mut remedies: Vec<String> = slower.collect();
    if facts.holds_likelihood == Some(false) {
        remedies.push(
            "an objective that holds each response's likelihood (`collimate objectives`), or `sft` in the sum"
                .to_owned(),
        );
    }
    format!("to try: {}", remedies.join("; "))
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

    fn facts(alarm_chosen_drop: f64) -> RunFacts {
        RunFacts { alarm_chosen_drop, ..RunFacts::new("objective: {name: dpo, beta: 0.1}\n", None) }
    }

    #[test]
    fn it_warns_at_the_threshold_and_again_at_twice_as_much() {
        let mut alarm = ChosenAlarm::new(&facts(3.0));
        let falling = rows((0..40).map(|step| -0.5 * step as f64));
        let warnings: Vec<_> = falling.iter().filter_map(|row| alarm.feed(row)).collect();
        // The mean of ten steps trails by 4.5 of them: 3, 6 and 12 nats at steps 11.5, 17.5 and 29.5.
        let expected = ["3.2 nats below the reference in the mean of 10 recorded steps, at step 12", "6.2", "12.2"];
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        assert!(warnings.iter().zip(expected).all(|(warning, part)| warning.contains(part)), "{warnings:?}");
    }

    #[test]
    fn it_is_silent_without_a_fall_a_threshold_or_a_reference() {
        assert_eq!(ChosenAlarm::last_warning(&rows([1.0; 30]), &facts(3.0)), None);
        assert_eq!(ChosenAlarm::last_warning(&rows([-100.0; 30]), &facts(0.0)), None);
        assert_eq!(ChosenAlarm::last_warning(&vec![MetricsRow::default(); 30], &facts(3.0)), None);
        assert_eq!(
            ChosenAlarm::last_warning(&rows((0..30).map(|i| if i == 15 { -20.0 } else { 0.0 })), &facts(3.0)),
            None
        );
    }

    #[test]
    fn its_advice_suits_the_objective() {
        let falling = rows((0..40).map(|step| -0.5 * step as f64));
        let warning = |holds_likelihood| {
            let facts = RunFacts { holds_likelihood: Some(holds_likelihood), ..facts(3.0) };
            ChosenAlarm::last_warning(&falling, &facts).expect("a warning")
        };
        assert!(warning(false).contains("holds each response's likelihood"), "{}", warning(false));
        assert!(!warning(true).contains("holds each") && warning(true).contains("beta (now 0.1)"), "{}", warning(true));
        let without_beta = RunFacts { beta: None, ..facts(3.0) };
        let warning = ChosenAlarm::last_warning(&falling, &without_beta).expect("a warning");
        assert!(warning.ends_with("to try: a lower learning_rate (now 5e-6)"), "{warning}");
    }
}
